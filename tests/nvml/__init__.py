"""A stand-in for NVIDIA's library, compiled when a test asks for it."""

import shutil
import subprocess
from pathlib import Path

STUB = Path(__file__).with_name("stub.c")
OBSERVER = Path(__file__).with_name("observe.py")
LIBRARY = "libnvidia-ml.so.1"

TWO_GPUS = """\
count=2
gpu0.uuid=GPU-aaaa
gpu0.name=NVIDIA GeForce RTX 4090
gpu0.total=25769803776
gpu0.used=6442450944
gpu0.reserved=536870912
gpu0.util=37
gpu0.temp=54
gpu0.power=123456
gpu0.limit=450000
gpu1.uuid=GPU-bbbb
gpu1.name=NVIDIA RTX A2000
gpu1.total=12884901888
gpu1.used=0
gpu1.util=0
gpu1.temp=33
gpu1.power=9000
gpu1.limit=70000
"""


def compiler() -> str | None:
    """A C compiler, if there is one."""
    return shutil.which("gcc") or shutil.which("cc") or shutil.which("clang")


def build(folder: Path) -> Path:
    """Compile the stand-in into this folder, which then goes into LD_LIBRARY_PATH."""
    command = [compiler() or "cc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"]
    target = ["-Wl,-soname," + LIBRARY, "-o", str(folder / LIBRARY), str(STUB)]
    subprocess.run([*command, *target], check=True, capture_output=True, text=True, timeout=120)
    return folder
