"""One llama.cpp server in a process of its own; the engine starts this file as a program.

The first line of stdin is the configuration (JSON; there, not among the arguments, because it holds
the key that other users of the machine must not read). Our own lines on stdout are JSON objects;
between them llama.cpp writes its progress (`cmd_child_to_router:state:…`). Errors are on stderr.
The end of stdin ends the process.

It imports nothing of ours: a model must be up as soon as possible.
"""

import ctypes
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn, TextIO

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Load the model, say where it listens, and serve until stdin closes."""
    config = json.loads(_first_line())
    # llama.cpp points fd 1 at stderr, so our own lines need a copy made before.
    out = os.fdopen(os.dup(1), "w", buffering=1)
    _bind_to_parent(config["parent"])
    _limit(config.get("data_limit"))
    _say(out, state="started")
    try:
        import xllamacpp
    except ImportError as error:
        _fail(out, _missing_library(str(error)))
    parameters = _parameters(xllamacpp, config)
    _say(out, state="reading", already_read=_bytes_read())
    try:
        # Holds the GIL for the whole load.
        server = xllamacpp.Server(parameters)
    except Exception as error:  # noqa: BLE001 - the boundary of this process
        _fail(out, str(error))
    _say(out, state="listening", url=server.listening_address, gpu=_has_gpu(xllamacpp))
    threading.Event().wait()


def _first_line() -> bytes:
    """Byte by byte, because what follows the line belongs to llama.cpp."""
    line = bytearray()
    while (byte := os.read(0, 1)) not in (b"", b"\n"):
        line += byte
    return bytes(line)


def _bind_to_parent(parent: int) -> None:
    """Die with the engine, even while a load holds the GIL and nobody reads stdin."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _limit(data_limit: int | None) -> None:
    """No core files, no more private memory than planned, and first in line when it runs out."""
    if sys.platform != "linux":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if data_limit:
        resource.setrlimit(resource.RLIMIT_DATA, (data_limit, data_limit))
    try:
        Path("/proc/self/oom_score_adj").write_text("800")
    except OSError:
        return  # a container may forbid it; the order of victims is then the kernel's


def _bytes_read() -> int | None:
    """What this process has read so far, so that the engine can tell the weights from the rest."""
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return None
    return next((int(line[7:]) for line in lines if line.startswith("rchar: ")), None)


def _has_gpu(library: Any) -> bool:
    return any("GPU" in str(device["type"]) for device in library.get_device_info())


def _missing_library(error: str) -> str:
    if "libgomp" in error:
        return (
            "llama.cpp cannot start: the OpenMP library libgomp.so.1 is missing. "
            "Install it (Debian and Ubuntu: apt install libgomp1)."
        )
    return f"llama.cpp cannot start: {error}. Reinstall the package xllamacpp for this machine."


def _parameters(library: Any, config: dict[str, Any]) -> Any:
    given = library.CommonParams()
    given.model.path = config["path"]
    given.model_alias = {config["id"]} if isinstance(given.model_alias, set) else [config["id"]]
    if config.get("mmproj"):
        given.mmproj.path = config["mmproj"]
    given.n_parallel = config["parallel"]
    # The slots share the context.
    given.n_ctx = config["context_length"] * config["parallel"]
    # A stop waits for one batch of the prompt.
    given.n_batch = config["batch"]
    given.n_ubatch = min(config["batch"], given.n_ubatch)
    given.cpuparams.n_threads = given.cpuparams_batch.n_threads = config["threads"]
    given.load_mode = getattr(library.llama_load_mode, "LLAMA_LOAD_MODE_" + config["load_mode"])
    if config.get("flash_attention") is not None:
        word = "ENABLED" if config["flash_attention"] else "DISABLED"
        given.flash_attn_type = getattr(
            library.llama_flash_attn_type, "LLAMA_FLASH_ATTN_TYPE_" + word
        )
    given.cache_type_k = _number_format(library, config["k_cache_type"])
    given.cache_type_v = _number_format(library, config["v_cache_type"])
    given.no_kv_offload = not config["offload_cache"]
    if config.get("gpu_layers") is not None:
        given.n_gpu_layers = config["gpu_layers"]
    given.cache_ram_mib = config.get("prompt_cache_mib", 0)  # the default is 8 GiB
    given.hostnames, given.port, given.api_keys = ["127.0.0.1"], 0, [config["api_key"]]
    given.ui = given.endpoint_slots = given.fit_params = False
    given.offline, given.verbosity, given.n_threads_http = True, 1, 4 + config["parallel"]
    if config.get("chat_template"):
        given.chat_template = config["chat_template"]
    if config.get("temperature") is not None:
        given.sampling.temp = config["temperature"]
    given.sampling.penalty_repeat = config["repeat_penalty"]
    if config["embedding"]:
        # A text must fit in one batch.
        given.embedding, given.n_batch, given.n_ubatch = True, given.n_ctx, given.n_ctx
        if config.get("pooling"):
            word = config["pooling"].upper()
            given.pooling_type = getattr(library.llama_pooling_type, "LLAMA_POOLING_TYPE_" + word)
    return given


def _number_format(library: Any, name: str) -> Any:
    return getattr(library.ggml_type, "GGML_TYPE_" + name.upper())


def _say(out: TextIO, **line: object) -> None:
    out.write(json.dumps(line) + "\n")


def _fail(out: TextIO, error: str) -> NoReturn:
    _say(out, state="failed", error=error)
    _finish_the_log()
    # Without the interpreter's clean-up: llama.cpp's threads may be half way.
    os._exit(3)


def _finish_the_log() -> None:
    """llama.cpp writes its log in a thread of its own, which may still hold the very reason."""
    library = sys.modules.get("xllamacpp.xllamacpp")
    if library is None:
        return  # it has not said anything yet
    try:
        names = ctypes.CDLL(library.__file__)
        log = names._Z15common_log_mainv  # common_log_main()
        log.restype = ctypes.c_void_p
        names._Z16common_log_flushP10common_log(ctypes.c_void_p(log()))
    except (AttributeError, OSError):
        # A build without these names: it has written them by now on any but a very busy machine.
        time.sleep(0.3)


if __name__ == "__main__":
    main()
