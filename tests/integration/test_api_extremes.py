"""Every route of the API with what nobody sends on purpose: it is refused or taken, never a failure."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent_upstream import AgentUpstream, Say
from tests.desk import DeskUnderTest, run_desk
from tests.servers import serve

pytestmark = pytest.mark.anyio

HALF = "\ud83d"
JSON = {"content-type": "application/json"}
HUGE = ("99999999999999999999", "-99999999999999999999", "9" * 5000)
# Work of minutes, or requests that leave this machine.
SKIPPED = frozenset(
    {
        "/api/v1/downloads",
        "/api/v1/downloads/search",
        "/api/v1/downloads/files",
        "/api/v1/models/benchmark",
        "/api/v1/providers/test",
    }
)
Document = dict[str, Any]


def operations(document: Document, *methods: str) -> Iterator[tuple[str, str, Document]]:
    for path, methods_here in document["paths"].items():
        if path not in SKIPPED:
            for method in set(methods) & set(methods_here):
                yield method, path, methods_here[method]


def resolved(document: Document, schema: Document) -> Document:
    """Without references and without the choice of null."""
    for each in schema.get("anyOf", ()):
        if each.get("type") != "null":
            return resolved(document, each)
    if "$ref" in schema:
        return resolved(document, document["components"]["schemas"][schema["$ref"].split("/")[-1]])
    return schema


def sample(document: Document, schema: Document, depth: int = 0) -> Any:
    """A value of this schema in which every text holds half a character."""
    schema = resolved(document, schema)
    if "enum" in schema or "const" in schema:
        return schema.get("const", (schema.get("enum") or [None])[0])
    kind = schema.get("type")
    if kind == "object" and depth < 5:
        fields = schema.get("properties", {})
        made = {name: sample(document, each, depth + 1) for name, each in fields.items()}
        return made or {HALF: HALF}
    if kind == "array":
        return [sample(document, schema.get("items", {}), depth + 1)]
    if kind in ("integer", "number"):
        return schema.get("minimum", 1)
    return {"boolean": False, "object": {}}.get(str(kind), f"a{HALF}")


def bodies(document: Document, schema: Document) -> Iterator[Any]:
    """One with halves everywhere, and for each text one in which only that has a half."""
    whole = sample(document, schema)
    yield whole
    schema = resolved(document, schema)
    needed = schema.get("required", ())
    for name, value in whole.items() if isinstance(whole, dict) else ():
        others = json.loads(json.dumps({key: whole[key] for key in needed}).replace("\\ud83d", ""))
        yield others | {name: value}


async def failures(desk: DeskUnderTest) -> list[str]:
    document = (await desk.get("/openapi.json")).json()
    found = []
    for method, path, told in operations(document, "post", "put", "patch"):
        content = told.get("requestBody", {}).get("content", {})
        if "application/json" not in content:
            continue
        for body in bodies(document, content["application/json"]["schema"]):
            answer = await desk.request(
                method.upper(),
                path.replace("{", "").replace("}", ""),
                content=json.dumps(body),
                headers=JSON,
            )
            if answer.status_code == 500:
                found.append(f"{method} {path} {json.dumps(body)[:200]}: {answer.text}")
    return found


async def test_no_half_character_breaks_a_route(tmp_path: Path) -> None:
    async with run_desk(tmp_path) as desk:
        assert await failures(desk) == []


async def test_no_number_breaks_a_route(tmp_path: Path) -> None:
    async with run_desk(tmp_path) as desk:
        document = (await desk.get("/openapi.json")).json()
        tried = 0
        for _, path, told in operations(document, "get"):
            for each in told.get("parameters", ()):
                schema = resolved(document, each["schema"])
                if each["in"] != "query" or schema.get("type") not in ("integer", "number"):
                    continue
                for huge in HUGE:
                    place = path.replace("{", "").replace("}", "")
                    answer = await desk.get(place, params={each["name"]: huge})
                    assert answer.status_code < 500, f"{place} {each['name']}={huge}: {answer.text}"
                    tried += 1
        assert tried > 20


async def test_a_question_with_half_a_character_is_asked_and_kept(tmp_path: Path) -> None:
    studio = AgentUpstream("one")
    studio.plays(Say("Yes."), Say("Yes."), model="one")
    async with serve(studio) as url, run_desk(tmp_path, lmstudio_url=url) as desk:
        body = {
            "content": f"Is {HALF} a face?",
            "columns": [{"model_id": "one"}, {"model_id": "one"}],
        }
        answer = await desk.post("/api/v1/comparisons", content=json.dumps(body), headers=JSON)

        assert answer.status_code == 202, answer.text
        kept = await desk.get(f"/api/v1/comparisons/{answer.json()['id']}")
        assert kept.json()["rounds"][0]["content"] == "Is \ufffd a face?"
