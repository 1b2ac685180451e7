"""What an answer sends to the front end while it streams: display messages and their bytes.

    python tests/benchmarks/bench_messages.py

A real kernel, paced streams. Counted are display_data, update_display_data, clear_output,
execute_result and stream messages of the cell, as frames on the iopub socket: serialized header,
parent header, metadata and content; not the topic, the delimiter and the signature (about 150
bytes a message). The naive cell shows all the text anew at each chunk.
"""

from __future__ import annotations

from answers import heavy_markdown, pieces, responses_stream
from kernels import Ran, real_kernel
from loopback import Stream, served
from side_by_side import show

OURS = "%%o3 --base-url {url}\nSay it."
NAIVE = """import o3magic as o3
from IPython.display import Markdown, display
said, handle = "", display(Markdown(""), display_id=True)
for event in o3.stream("Say it.", base_url="{url}"):
    if type(event).__name__ == "TextDelta":
        said += event.text
        handle.update(Markdown(said))
"""
SHORT, LONG = "20 KB, 2,000 chunks at 200/s", "200 KB, 10,000 chunks at 1,000/s"


def main() -> None:
    streams = {
        SHORT: Stream(responses_stream(pieces(heavy_markdown(20_000), 2_000)), per_s=200),
        LONG: Stream(responses_stream(pieces(heavy_markdown(200_000), 10_000)), per_s=1_000),
    }
    with served(streams) as urls, real_kernel() as kernel:
        ran = {
            f"%%o3, {SHORT}": kernel.run(OURS.format(url=urls[SHORT])),
            f"%%o3, {LONG}": kernel.run(OURS.format(url=urls[LONG])),
            f"update(Markdown(all)), {SHORT}": kernel.run(NAIVE.format(url=urls[SHORT])),
        }
    short = next(iter(ran.values()))
    rows = [row(name, each, short) for name, each in ran.items()]
    head = ("cell, answer", "wall s", "messages", "MB", "x ours, 20 KB")
    show("Messages to the front end", head, rows)


def row(name: str, ran: Ran, short: Ran) -> tuple[str, ...]:
    ratio = f"{ran.bytes / short.bytes:.1f}"
    return name, f"{ran.wall_s:.1f}", f"{ran.messages:,}", f"{ran.bytes / 1e6:.3f}", ratio


if __name__ == "__main__":
    main()
