"""A provider on loopback whose answers are better at higher effort."""

import re
from collections import Counter
from http.server import ThreadingHTTPServer

from tests.servers import JsonHandler, running

OUTPUT_TOKENS = {"low": 100, "medium": 400, "high": 900}
RIGHT_BELOW = {"low": 5, "medium": 8, "high": 9}  # of ten rows
INPUT_TOKENS = 20


def cost_nano_usd(effort):
    return INPUT_TOKENS * 1100 + OUTPUT_TOKENS[effort] * 4400


class Provider(ThreadingHTTPServer):
    """Answers `row 7` with 7, or with a wrong number where that is too much for the effort."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self.server_port}/v1"
        self.asked = Counter()
        self.simulated = False
        self.refused = ""
        self.barred = ""  # an effort for which no key is good
        self.words = lambda prompt, effort, right: f"The answer is {right}."
        self.at = lambda effort: None

    def body(self, asked):
        prompt = asked["input"][-1]["content"]
        effort = asked["reasoning"]["effort"]
        self.at(effort)
        self.asked[effort, prompt] += 1
        n = int(re.search(r"row (\d+)", prompt)[1])
        found = n if n % 10 < RIGHT_BELOW[effort] else n + 100
        part = {"type": "output_text", "text": self.words(prompt, effort, found)}
        tokens = OUTPUT_TOKENS[effort]
        usage = {"input_tokens": INPUT_TOKENS, "output_tokens": tokens}
        usage |= {"total_tokens": INPUT_TOKENS + tokens}
        usage |= {"output_tokens_details": {"reasoning_tokens": tokens - 10}}
        said = {"id": "resp_1", "model": asked["model"], "status": "completed"}
        return said | {"output": [{"type": "message", "content": [part]}], "usage": usage}


class Handler(JsonHandler):
    def do_POST(self):
        asked = self.asked()
        prompt = asked["input"][-1]["content"]
        refused = self.server.refused and self.server.refused in prompt
        barred = asked["reasoning"]["effort"] == self.server.barred
        said = {"error": {"message": "no"}} if refused or barred else self.server.body(asked)
        headers = [("x-o3magic-simulated", "1")] if self.server.simulated else []
        self.say(401 if barred else 400 if refused else 200, said, headers)


def serving():
    """A provider, until the block ends."""
    return running(Provider())
