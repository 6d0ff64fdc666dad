"""What the gateway is measured against, each installed and started here: nginx, LiteLLM, and none.

Nothing is installed into this machine or this environment: it all goes to a cache folder.
"""

import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from benchmarks import processes
from tests.sockets import free_port

SOURCES = Path(__file__).parent
LITELLM = "litellm[proxy]"


class Missing(Exception):
    """A peer that cannot be had here, and why."""


def cache() -> Path:
    folder = Path(platformdirs.user_cache_dir("lmdesk-benchmarks"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def compiled(name: str) -> Path:
    """The program of this C file. Raises Missing without a compiler."""
    source = SOURCES / f"{name}.c"
    program = cache() / name
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return program
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise Missing("there is no C compiler")
    _run([compiler, "-O2", "-o", str(program), str(source)], "compiling failed")
    return program


@contextmanager
def upstream(models: int = 6) -> Generator[processes.Running]:
    """The scripted model server."""
    command = [str(compiled("gateway_upstream")), str(models)]
    with processes.running(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield processes.Running(f"http://127.0.0.1:{port}", process, 0.0)


@contextmanager
def nginx(upstream_url: str) -> Generator[processes.Running]:
    """One worker that passes everything on at once."""
    program = _nginx_program()
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "nginx.conf"
        config.write_text(_NGINX.format(folder=folder, port=port, upstream=upstream_url[7:]))
        command = [program, "-p", folder, "-c", str(config), "-e", "error.log"]
        with processes.running(command, stdout=subprocess.DEVNULL) as process:
            url = f"http://127.0.0.1:{port}"
            processes.wait_for(f"{url}/v1/models", process)
            yield processes.Running(url, process, 0.0)


@contextmanager
def litellm(upstream_url: str) -> Generator[processes.Running]:
    """LiteLLM's proxy with one worker, before the same server."""
    program = _litellm_program()
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(
            "model_list:\n"
            + "".join(
                f"  - model_name: bench/model-{n}\n    litellm_params:\n"
                f"      model: openai/bench/model-{n}\n      api_key: none\n"
                f"      api_base: {upstream_url}/v1\n"
                for n in range(6)
            )
            + "litellm_settings:\n  telemetry: false\n  drop_params: true\n"
        )
        command = [program, "--config", str(config), "--port", str(port), "--host", "127.0.0.1"]
        more = {
            "LITELLM_LOG": "ERROR",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "NO_DOCS": "True",
            # It listens on loopback only, for as long as it is measured.
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        }
        with processes.running(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, more=more, cwd=cache()
        ) as process:
            url = f"http://127.0.0.1:{port}"
            processes.wait_for(f"{url}/health/liveliness", process, seconds=120)
            yield processes.Running(url, process, 0.0)


@contextmanager
def relay(upstream_url: str) -> Generator[processes.Running]:
    """The plainest FastAPI proxy, as in `concurrent_turns`."""
    with processes.server("benchmarks.relay", upstream_url) as running:
        yield running


@contextmanager
def desk(upstream_url: str) -> Generator[processes.Running]:
    """The real `lmdesk api`, with all that it does for a request."""
    with (
        tempfile.TemporaryDirectory() as folder,
        processes.desk(Path(folder), "api", lmstudio=upstream_url) as running,
    ):
        yield running


def _nginx_program() -> str:
    if found := shutil.which("nginx"):
        return found
    program = cache() / "nginx" / "usr" / "sbin" / "nginx"
    if not program.exists():
        if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
            raise Missing("it is not installed, and there is no apt-get to fetch it with")
        with tempfile.TemporaryDirectory() as folder:
            _run(["apt-get", "download", "nginx"], "apt-get cannot fetch it", cwd=Path(folder))
            package = next(Path(folder).glob("nginx_*.deb"))
            _run(["dpkg", "-x", str(package), str(cache() / "nginx")], "it cannot be unpacked")
    try:
        subprocess.run([str(program), "-v"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Missing(f"the fetched program does not run here: {error}") from error
    return str(program)


def _litellm_program() -> str:
    folder = cache() / "litellm"
    program = folder / "bin" / "litellm"
    if not program.exists():
        print("installing LiteLLM (once; a minute or two) …", file=sys.stderr, flush=True)
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", LITELLM]
        _run(pip, "pip cannot install it")
    return str(program)


def litellm_version() -> str:
    """What was measured."""
    python = cache() / "litellm" / "bin" / "python"
    code = "from importlib.metadata import version; print(version('litellm'))"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _run(command: list[str], words: str, *, cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise Missing(f"{words}: {''.join(tail)}")


_NGINX = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log error;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  upstream models {{ server {upstream}; keepalive 1024; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port}; keepalive_requests 1000000;
    location / {{
      proxy_pass http://models; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_read_timeout 600s;
    }}
  }}
}}
"""
