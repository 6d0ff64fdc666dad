"""`lmdesk engine`: the built-in engine alone, for programs that speak to an LM Studio."""

from argparse import Namespace

from api.data_folder import require_writable
from api.settings import BadSetting
from api.settings_sources import load_settings
from api.token_file import with_token
from app.commands.logs import configure_logs
from app.serve import listen

HOST = "127.0.0.1"
PORT = 1234


def engine(arguments: Namespace) -> int:
    """Serve models until a signal comes."""
    settings = load_settings(
        {
            # LMDESK_HOST and LMDESK_PORT are the desk's own address, not the engine's.
            "host": arguments.host or HOST,
            "port": PORT if arguments.port is None else arguments.port,
            "token": arguments.token,
            "engine_memory_budget": arguments.memory_budget,
            "data_dir": arguments.data_dir,
            "log_level": arguments.log_level,
        },
        config=arguments.config,
    )
    for folder in arguments.models:
        if not folder.is_dir():
            raise BadSetting(
                f"--models names {folder}, and there is no such folder.",
                hint="Give one that holds GGUF files.",
            )
    configure_logs(settings.log_level)
    require_writable(settings.data_dir)
    settings = with_token(settings)
    # Taken and given back: whether the port is free is said before llama.cpp is looked at.
    listen(settings).close()

    from api.engine_command import run_engine

    models = [folder.absolute() for folder in arguments.models]
    run_engine(settings, models_dirs=models, profile=arguments.profile)
    return 0
