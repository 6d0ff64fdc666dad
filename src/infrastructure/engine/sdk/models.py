"""The namespaces `/llm` and `/embedding`: what is loaded, how it does, and short questions to it."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from core.errors import NotFound
from infrastructure.engine import memory, upstream
from infrastructure.engine.desk import Desk
from infrastructure.engine.instance import Instance
from infrastructure.engine.sdk import describe, loading, predicting
from infrastructure.engine.sdk.describe import Specifier, find_instance
from infrastructure.engine.sdk.frames import CallError, Namespace, Parameter, Rpc, Stream
from infrastructure.engine.sdk.frames import Nothing as NoParameter
from infrastructure.engine.sdk.history import History, messages
from infrastructure.engine.sdk.load_config import Stack, config_of, wish_of
from infrastructure.engine.selection import Kind
from infrastructure.engine.wire import Json


class ByIdentifier(Parameter):
    """Of `unloadModel`."""

    identifier: str


class BySpecifier(Parameter):
    """Of calls about a loaded model."""

    specifier: Specifier
    throw_if_not_found: bool = True


class Text(Parameter):
    """Of `tokenize` and `countTokens`."""

    specifier: Specifier
    input_string: str


class Embedding(Parameter):
    """Of `embedString`."""

    model_specifier: Specifier
    input_string: str


class Plan(Parameter):
    """Of `estimateModelUsage`."""

    model_key: str
    load_config_stack: Stack


class TemplateOptions(Parameter):
    """Of `applyPromptTemplate`."""

    tool_definitions: list[dict[str, Any]] | None = None


class Conversation(Parameter):
    """Of `applyPromptTemplate`."""

    specifier: Specifier
    history: History
    opts: TemplateOptions = TemplateOptions()


def namespace(desk: Desk, kind: Kind) -> Namespace:
    """All that can be asked about models of this kind."""
    calls = _Calls(desk, kind)
    loads = loading.Loading(desk, kind)
    rpcs = {
        "listLoaded": Rpc(NoParameter, calls.list_loaded),
        "unloadModel": Rpc(ByIdentifier, calls.unload),
        "getModelInfo": Rpc(BySpecifier, calls.info),
        "getLoadConfig": Rpc(BySpecifier, calls.load_config),
        "getBasePredictionConfig": Rpc(BySpecifier, calls.prediction_config),
        "getInstanceProcessingState": Rpc(BySpecifier, calls.state),
        "estimateModelUsage": Rpc(Plan, calls.estimate),
        "tokenize": Rpc(Text, calls.tokenize),
        "countTokens": Rpc(Text, calls.count_tokens),
    }
    channels = {
        "loadModel": Stream(loading.LoadModel, loads.load),
        "getOrLoad": Stream(loading.GetOrLoad, loads.get_or_load),
    }
    if kind == "embedding":
        rpcs["embedString"] = Rpc(Embedding, calls.embed)
    else:
        rpcs["applyPromptTemplate"] = Rpc(Conversation, calls.apply_template)
        prediction = predicting.Prediction(desk)
        channels["predict"] = Stream(predicting.Predict, prediction.predict)
        channels["completeRawText"] = Stream(predicting.Complete, prediction.complete)
    return Namespace(rpcs, channels)


class _Calls:
    """The short questions."""

    def __init__(self, desk: Desk, kind: Kind) -> None:
        self._desk = desk
        self._kind = kind

    async def list_loaded(self, _: NoParameter) -> list[Json]:
        return [describe.instance_info(one) for one in describe.loaded(self._desk, self._kind)]

    async def unload(self, given: ByIdentifier) -> None:
        """Answers when the memory is back."""
        try:
            await self._desk.pool.unload(given.identifier)
        except NotFound:
            raise describe.not_loaded(self._desk, given.identifier) from None

    async def info(self, given: BySpecifier) -> Json | None:
        try:
            return describe.instance_info(find_instance(self._desk, given.specifier, self._kind))
        except CallError:
            if given.throw_if_not_found:
                raise
            return None

    async def load_config(self, given: BySpecifier) -> Json:
        instance = find_instance(self._desk, given.specifier, self._kind)
        return config_of(instance, self._kind)

    async def prediction_config(self, given: BySpecifier) -> Json:
        """Nothing is kept on the server: every prediction brings its own."""
        find_instance(self._desk, given.specifier, self._kind)
        return {"fields": []}

    async def state(self, given: BySpecifier) -> Json | None:
        try:
            instance = find_instance(self._desk, given.specifier, self._kind)
        except CallError:
            if given.throw_if_not_found:
                raise
            return None
        return {"status": instance.status, "queued": instance.queued}

    async def estimate(self, given: Plan) -> Json:
        model = await describe.find_model(self._desk, given.model_key, self._kind)
        wish = wish_of(given.load_config_stack, self._kind)
        settings = memory.settings_for(model, model.key, self._desk.config, wish)
        reckoned = memory.estimate(settings, model)
        fits = memory.needed(settings, model) <= self._desk.pool.free_bytes()
        return {
            "memory": {
                "confidence": "low" if model.damage else "high",
                "modelVramBytes": 0,
                "contextVramBytes": 0,
                "totalVramBytes": 0,
                "modelBytes": reckoned.weights,
                "contextBytes": reckoned.total - reckoned.weights,
                "totalBytes": reckoned.total,
            },
            "passesGuardrails": fits and "guardrail-refuses" not in self._desk.config.quirks,
        }

    async def tokenize(self, given: Text) -> Json:
        return {"tokens": await self._tokens(given)}

    async def count_tokens(self, given: Text) -> Json:
        return {"tokenCount": len(await self._tokens(given))}

    async def embed(self, given: Embedding) -> Json:
        instance = find_instance(self._desk, given.model_specifier, self._kind)
        asked = {"input": given.input_string, "model": instance.id, "encoding_format": "float"}
        answer = await self._ask(instance, "/v1/embeddings", asked)
        return {"embedding": answer["data"][0]["embedding"]}

    async def apply_template(self, given: Conversation) -> Json:
        instance = find_instance(self._desk, given.specifier, self._kind)
        asked: Json = {"messages": messages(given.history)}
        if given.opts.tool_definitions:
            asked["tools"] = given.opts.tool_definitions
        answer = await self._ask(instance, "/apply-template", asked)
        return {"formatted": answer["prompt"]}

    async def _tokens(self, given: Text) -> list[int]:
        instance = find_instance(self._desk, given.specifier, self._kind)
        asked = {"content": given.input_string, "add_special": False}
        tokens: list[int] = (await self._ask(instance, "/tokenize", asked))["tokens"]
        return tokens

    async def _ask(self, instance: Instance, path: str, body: Mapping[str, Any]) -> Json:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._desk.pool.using(instance))
            return await upstream.exchange(self._desk.session, instance, path, body)
