"""What LM Studio's error texts become, from those recorded of real servers."""

import pytest

from core.errors import (
    BadParameter,
    ContextTooLong,
    DeskError,
    LoadFailed,
    ModelCrashed,
    ModelNotFound,
    ModelUnloaded,
    NotEnoughMemory,
    ProviderBusy,
    ProviderFailed,
    ProviderNeedsToken,
    ProviderRejected,
)
from core.models import ModelInfo
from infrastructure.http import ServerError, check_body, clean_base_url
from infrastructure.providers.estimate import CAP, LoadEstimates
from infrastructure.providers.lmstudio.wording import LM_STUDIO
from infrastructure.providers.problems import problem

GUARDRAIL = (
    "Failed to load LLM 'google/gemma-4-26b-a4b': Error: Model loading was stopped due to"
    " insufficient system resources. Continuing to load the model would likely overload your system"
    " and cause it to freeze."
)


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (ServerError(GUARDRAIL, "model_load_failed"), 500, NotEnoughMemory),
        (
            ServerError(
                'Failed to load model "X". Error: Model loading was stopped due to insufficient'
                " system resources.",
                "invalid_request_error",
                "model_not_found",
            ),
            400,
            NotEnoughMemory,
        ),
        (ServerError("this model requires approximately 22.92 GB of memory"), 500, NotEnoughMemory),
        (
            ServerError(
                'Failed to load model "X". Error: Failed to load model.', "", "model_not_found"
            ),
            400,
            LoadFailed,
        ),
        (ServerError("no cause", "model_load_failed"), 500, LoadFailed),
        (
            ServerError(
                "The number of tokens to keep from the initial prompt is greater than the context"
                " length. Try to load the model with a larger context length"
            ),
            200,
            ContextTooLong,
        ),
        (
            ServerError("Trying to keep the first 5000 tokens when context the overflows"),
            200,
            ContextTooLong,
        ),
        (ServerError("Context size has been exceeded"), 200, ContextTooLong),
        (
            ServerError("The model has crashed without additional information. (Exit code: null)"),
            400,
            ModelCrashed,
        ),
        (ServerError("Model has unloaded or crashed.."), 400, ModelUnloaded),
        (
            ServerError('Invalid model identifier "x". Please specify', "", "model_not_found"),
            400,
            ModelNotFound,
        ),
        (
            ServerError("Model x not found in downloaded models", "model_not_found"),
            404,
            ModelNotFound,
        ),
        (ServerError("No models loaded. Please load a model"), 400, ModelNotFound),
        (ServerError("Error rendering prompt with jinja template: x"), 200, ProviderRejected),
        (ServerError("Permission denied to use plugin 'mcp/x'."), 403, ProviderRejected),
        (ServerError("'messages' field is required"), 400, ProviderRejected),
        (ServerError(""), 500, ProviderFailed),
        (ServerError("overloaded"), 503, ProviderBusy),
        (ServerError("too many", code="429"), 200, ProviderBusy),
        (ServerError("whatever", "invalid_request", "invalid_api_key"), 401, ProviderNeedsToken),
    ],
)
def test_a_recorded_text_becomes_its_error(
    error: ServerError, status: int, kind: type[DeskError]
) -> None:
    found = problem(error, LM_STUDIO, status=status)

    assert type(found) is kind
    assert found.message


def test_no_part_of_a_token_is_repeated() -> None:
    echoed = "Malformed LM Studio API token provided: sk-bogus-E**************"

    for status in (400, 401, 403):
        error = problem(ServerError(echoed), LM_STUDIO, status=status)
        assert "bogus" not in error.message + error.hint


def test_a_foreign_text_is_one_bounded_line() -> None:
    error = problem(ServerError("a\n\r\tb" + "x" * 9000), LM_STUDIO, status=400)

    assert "a b" in error.message
    assert len(error.message) < 600


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"error": "Unexpected endpoint or method. (GET /x)"}, True),
        ({"error": {"message": "m", "type": "t", "code": None}}, True),
        ({"error": {}}, True),
        ({"error": None, "output": []}, False),
        ({"data": []}, False),
        ([], False),
        (None, False),
    ],
)
def test_an_error_in_a_body_is_seen_whatever_the_status(body: object, error: bool) -> None:
    assert (check_body(body) is not None) is error


@pytest.mark.parametrize(
    "given",
    [
        "http://127.0.0.1:1234",
        "http://127.0.0.1:1234/",
        "http://127.0.0.1:1234/v1",
        "http://127.0.0.1:1234/v1/",
        "http://127.0.0.1:1234/api/v0",
        "http://127.0.0.1:1234/api/v1//",
        " 127.0.0.1:1234/v1 ",
        "http://me:secret@127.0.0.1:1234/v1?x=1",
    ],
)
def test_any_spelling_of_an_address_leads_to_the_servers_root(given: str) -> None:
    assert clean_base_url(given) == "http://127.0.0.1:1234"


def test_a_path_in_front_of_the_api_is_kept() -> None:
    assert clean_base_url("https://host/lm/v1/") == "https://host/lm"
    assert clean_base_url("http://[::1]:1234/v1") == "http://[::1]:1234"


@pytest.mark.parametrize("given", ["", "ftp://x", "http://", "http://x:99999", "file:///etc"])
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(BadParameter):
        clean_base_url(given)


def test_an_estimate_never_claims_the_end_and_learns_from_what_it_saw() -> None:
    estimates = LoadEstimates()
    small = ModelInfo(id="s", provider="p", name="s", size_bytes=10**9)
    large = ModelInfo(id="l", provider="p", name="l", size_bytes=4 * 10**9)

    assert estimates.fraction(small, elapsed=10_000) == CAP
    estimates.learn(small, seconds=10.0)

    assert estimates.seconds(small) == 10.0
    assert estimates.seconds(large) == pytest.approx(40.0)
    assert 0 < estimates.fraction(large, elapsed=1.0) < estimates.fraction(large, elapsed=2.0)
