"""Files and batches: forms, states, partial failures, and what the API would refuse."""

import json

import pytest

from o3magic.simulator import BatchScript, Reply

RESPONSES = "/v1/responses"
CHAT = "/v1/chat/completions"
BODIES = {
    RESPONSES: {"model": "o3-mini", "input": "hello"},
    CHAT: {"model": "o3-mini", "messages": [{"role": "user", "content": "hello"}]},
}


def line(custom_id, url=RESPONSES, **body):
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": BODIES[url] | body}


def jsonl(lines):
    said = (each if isinstance(each, bytes) else json.dumps(each).encode() for each in lines)
    return b"".join(each + b"\n" for each in said)


@pytest.fixture
def upload(http):
    def send(content, purpose="batch"):
        return http.post("/files", data={"purpose": purpose}, files={"file": ("in.jsonl", content)})

    return send


@pytest.fixture
def create(http, upload):
    """Makes a batch of these lines."""

    def make(lines, endpoint=RESPONSES, **more):
        said = {"endpoint": endpoint, "completion_window": "24h", **more}
        if lines is not None:
            said = {"input_file_id": upload(jsonl(lines)).json()["id"], **said}
        return http.post("/batches", json=said)

    return make


@pytest.fixture
def look(http):
    return lambda batch: http.get(f"/batches/{batch['id']}").json()


@pytest.fixture
def over(look):
    """Looks until the batch is over."""

    def wait(batch):
        while batch["status"] not in ("failed", "completed", "expired", "cancelled"):
            batch = look(batch)
        return batch

    return wait


@pytest.fixture
def lines_of(http):
    """The lines of a file, by custom_id; None where there is no such file."""

    def read(file_id):
        if file_id is None:
            return None
        content = http.get(f"/files/{file_id}/content").content
        return [json.loads(each) for each in content.split(b"\n") if each]

    return read


def test_a_file_is_kept_and_forgotten(http, upload, valid):
    file = upload(b'{"a": 1}\n').json()
    valid("file", file)
    assert http.get(f"/files/{file['id']}").json() == file
    assert http.get("/files").json()["data"] == [file]
    content = http.get(f"/files/{file['id']}/content")
    assert content.content == b'{"a": 1}\n'
    assert content.headers["x-o3magic-simulated"] == "1"
    assert http.delete(f"/files/{file['id']}").json()["deleted"] is True
    assert http.get(f"/files/{file['id']}").status_code == 404


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"files": {"file": ("a", b"x")}}, "purpose"),
        ({"data": {"purpose": "batch"}, "files": {"other": ("a", b"x")}}, "file"),
        ({"data": {"purpose": "fun"}, "files": {"file": ("a", b"x")}}, "purpose"),
        ({"data": {"purpose": "batch"}, "files": {"file": ("a", b"")}}, "file"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=y"}}, None),
        ({"json": {"purpose": "batch"}}, None),
    ],
)
def test_a_form_that_is_none_is_refused(http, valid, form, param):
    refused = http.post("/files", **form)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    valid("error", refused.json())


@pytest.mark.parametrize("url", [RESPONSES, CHAT])
def test_a_batch_is_run_while_it_is_looked_at(create, look, lines_of, valid, url):
    asked = [
        line(f"row-{n}", url, reasoning_effort="low") if url == CHAT else line(f"row-{n}")
        for n in range(20)
    ]
    for each in asked:
        valid("batch_input_line", each)
    batch = create(asked, url, metadata={"job": "7"}).json()
    states = []
    while batch["status"] != "completed":
        valid("batch", batch)
        states.append(batch["status"])
        batch = look(batch)
    assert states == ["validating", "in_progress", "finalizing"]
    assert batch["request_counts"] == {"total": 20, "completed": 20, "failed": 0}
    assert batch["metadata"] == {"job": "7"}
    assert batch["error_file_id"] is None
    found = lines_of(batch["output_file_id"])
    for each in found:
        valid("batch_output_line", each)
        valid("chat_response" if url == CHAT else "responses_response", each["response"]["body"])
    ids = [each["custom_id"] for each in found]
    assert sorted(ids) == sorted(each["custom_id"] for each in asked)
    assert ids != [each["custom_id"] for each in asked]
    name = "total_tokens"
    assert batch["usage"][name] == sum(e["response"]["body"]["usage"][name] for e in found)


def test_lines_may_fail_be_missing_or_come_twice(sim, create, over, lines_of, valid):
    failing = {1: Reply(status=429), 2: Reply(status=400, error={"code": "content_filter"})}
    sim.script_batches(BatchScript(failing=failing, missing=[3], twice=[4], usage=False))
    batch = over(create([line(str(n)) for n in range(6)]).json())
    assert batch["request_counts"] == {"total": 6, "completed": 3, "failed": 2}
    assert batch["usage"] is None
    out, wrong = lines_of(batch["output_file_id"]), lines_of(batch["error_file_id"])
    assert sorted(each["custom_id"] for each in out) == ["0", "4", "4", "5"]
    statuses = {each["custom_id"]: each["response"]["status_code"] for each in wrong}
    assert statuses == {"1": 429, "2": 400}
    for each in wrong:
        valid("batch_output_line", each)


def test_a_line_that_would_be_refused_by_itself_is_in_the_error_file(create, over, lines_of):
    batch = over(create([line("a"), line("b", temperature=1)]).json())
    assert [each["custom_id"] for each in lines_of(batch["output_file_id"])] == ["a"]
    [wrong] = lines_of(batch["error_file_id"])
    assert wrong["response"]["body"]["error"]["code"] == "unsupported_parameter"


def test_where_all_fail_there_is_an_error_file_only(sim, create, over, lines_of):
    sim.script_batches(BatchScript(failing={0: Reply(status=500), 1: Reply(status=500)}))
    batch = over(create([line("a"), line("b")]).json())
    assert (batch["status"], batch["output_file_id"]) == ("completed", None)
    assert len(lines_of(batch["error_file_id"])) == 2


def test_a_batch_that_expires_keeps_what_was_done(sim, create, over, lines_of, valid):
    sim.script_batches(BatchScript(states=("validating", "in_progress", "expired"), done=2))
    batch = over(create([line(str(n)) for n in range(5)]).json())
    valid("batch", batch)
    assert batch["status"] == "expired"
    assert batch["expired_at"] is not None
    assert len(lines_of(batch["output_file_id"])) == 2
    wrong = lines_of(batch["error_file_id"])
    assert {each["error"]["code"] for each in wrong} == {"batch_expired"}
    assert [each["response"] for each in wrong] == [None] * 3


def test_a_batch_is_cancelled_and_keeps_what_was_done(sim, http, create, look, lines_of):
    sim.script_batches(BatchScript(done=1))
    batch = look(create([line("a"), line("b")]).json())
    assert http.post(f"/batches/{batch['id']}/cancel").json()["status"] == "cancelling"
    batch = look(batch)
    assert batch["status"] == "cancelled"
    assert [each["custom_id"] for each in lines_of(batch["output_file_id"])] == ["a"]
    assert http.post(f"/batches/{batch['id']}/cancel").status_code == 409


@pytest.mark.parametrize(
    ("lines", "code", "number"),
    [
        ([line("a"), line("a")], "duplicate_custom_id", 2),
        ([line("a"), b"{nope"], "invalid_json_line", 2),
        ([b"\xef\xbb\xbf" + json.dumps(line("a")).encode()], "invalid_json_line", 1),
        ([line("a", CHAT)], "invalid_url", 1),
        ([line("a") | {"method": "GET"}], "invalid_method", 1),
        ([line("a"), line("b", model="o3")], "mismatched_model", 2),
        ([line("a", model=None)], "missing_required_parameter", 1),
        ([line("a", stream=True)], "invalid_request", 1),
        ([{"custom_id": "a"}], "missing_required_parameter", 1),
        ([b" "], "empty_file", None),
    ],
)
def test_a_file_that_cannot_be_run_fails_when_it_is_looked_at(
    create, look, valid, lines, code, number
):
    batch = create(lines).json()
    assert batch["status"] == "validating"
    failed = look(batch)
    valid("batch", failed)
    assert failed["status"] == "failed"
    [error] = failed["errors"]["data"]
    assert (error["code"], error["line"]) == (code, number)
    assert look(batch) == failed


@pytest.mark.parametrize(
    ("more", "status", "param"),
    [
        ({"endpoint": "/v1/conversations"}, 400, "endpoint"),
        ({"endpoint": "/chat/completions"}, 400, "endpoint"),
        ({"completion_window": "1h"}, 400, "completion_window"),
        ({"metadata": {"part": 0}}, 400, "metadata.part"),
        ({"input_file_id": "file-gone"}, 404, "input_file_id"),
        ({"input_file_id": None}, 400, "input_file_id"),
    ],
)
def test_a_batch_that_is_wrong_is_refused(create, valid, more, status, param):
    refused = create([line("a")], **more)
    assert (refused.status_code, refused.json()["error"]["param"]) == (status, param)
    valid("error", refused.json())


def test_batches_are_listed_newest_first_in_pages(http, create, valid):
    made = [create([line("a")]).json()["id"] for _ in range(5)]
    page = http.get("/batches", params={"limit": 2}).json()
    valid("batch_list", page)
    assert [each["id"] for each in page["data"]] == made[:2:-1]
    assert page["has_more"] is True
    rest = http.get("/batches", params={"limit": 9, "after": page["last_id"]}).json()
    assert [each["id"] for each in rest["data"]] == made[2::-1]
    assert rest["has_more"] is False


def test_a_batch_may_be_there_though_its_maker_never_hears_of_it(sim, http, create):
    sim.script_batches(BatchScript(hang_up=True))
    with pytest.raises(Exception, match=r"disconnected|closed"):
        create([line("a")])
    assert len(http.get("/batches").json()["data"]) == 1


def test_answers_of_a_test_are_not_labelled(sim, http, create, over):
    sim.script_batches(BatchScript(answer=lambda body: {"id": "resp_1", "model": body["model"]}))
    batch = over(create([line("a")]).json())
    content = http.get(f"/files/{batch['output_file_id']}/content")
    assert "x-o3magic-simulated" not in content.headers
    assert content.json()["response"]["body"] == {"id": "resp_1", "model": "o3-mini"}


def test_azure_has_its_own_addresses_and_an_empty_error_file(sim, http, lines_of):
    base = sim.base_url.removesuffix("/v1") + "/openai/v1"
    sim.script_batches(BatchScript(empty_error_file=True))
    content = jsonl([line("a", CHAT) | {"url": "/chat/completions"}])
    form = {"data": {"purpose": "batch"}, "files": {"file": ("in.jsonl", content)}}
    file = http.post(f"{base}/files", **form).json()
    said = {"input_file_id": file["id"], "endpoint": "/chat/completions"}
    batch = http.post(f"{base}/batches", json=said | {"completion_window": "24h"}).json()
    for _ in range(3):
        batch = http.get(f"{base}/batches/{batch['id']}").json()
    assert batch["status"] == "completed"
    assert len(lines_of(batch["output_file_id"])) == 1
    assert lines_of(batch["error_file_id"]) == []


@pytest.mark.parametrize(
    "path", ["/batches/gone", "/files/gone", "/files/gone/content", "/batches/a/b/c", ""]
)
def test_what_is_not_there_is_told(http, valid, path):
    missing = http.get(path)
    assert missing.status_code == 404
    valid("error", missing.json())
