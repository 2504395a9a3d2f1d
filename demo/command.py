"""`wildreward demo`: look at a model, its data, its results and a policy in the browser."""

import logging
import socket

from wildreward.common.errors import UserError
from wildreward.common.settings import check_range
from wildreward.demo.settings import DemoConfig

logger = logging.getLogger(__name__)

CONFIGS = (DemoConfig,)


def main(config: DemoConfig) -> None:
    """Open what there is to show, and serve the page until interrupted."""
    try:
        from wildreward.demo.app import LAUNCH, build_app
    except ModuleNotFoundError as error:
        raise UserError(f"demo needs {error.name}; pip install 'wildreward[demo]'") from error
    check_range(("port", config.port, 1, 65535))
    config.parts()
    try:  # before anything is loaded
        socket.create_server((config.host, config.port), family=_family(config.host)).close()
    except OSError as error:
        raise UserError(
            f"cannot listen on {config.host}, port {config.port}: {error.strerror or error}; choose another --port"
        ) from error
    app = build_app(config)
    logger.info("demo: http://%s:%d", config.host, config.port)
    app.launch(server_name=config.host, server_port=config.port, **LAUNCH)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
