"""`bundle serve`: the installed models over HTTP."""

from pathlib import Path

import click

from bundler.commands.options import root_option
from bundler.commands.output import talk

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@click.command("serve")
@root_option
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=9001, show_default=True, help="0 takes a free one.")
def command(*, root: Path | None, host: str, port: int) -> None:
    """Answer over HTTP on loopback: GET /health, GET /model/registry, POST /infer/object_detection.

    Nothing leaves this machine: connections and lookups beyond loopback are refused, and /health counts them. A later
    install takes effect without a restart.

    Example: bundle serve --port 9001
    """
    from bundler.commands.extras import require

    if host not in LOOPBACK:
        raise click.UsageError(
            f"this version serves loopback only ({', '.join(LOOPBACK)}), not {host}: "
            "let a proxy that checks its clients stand before it"
        )
    require(("starlette", "serve"), ("uvicorn", "serve"), ("cv2", "serve"), ("onnxruntime", "cpu"))
    from runtime import guard
    from runtime.dataplane import open_data_plane
    from runtime.generations import CatalogueReader
    from runtime.server.app import create_app
    from runtime.server.serve import Running, serve
    from runtime.settings import Settings, locate_root

    guard.enable()
    place = locate_root(root)
    settings = Settings.read()
    catalogue = CatalogueReader(place)
    catalogue()
    dataplane = open_data_plane(
        catalogue,
        capacity=settings.maximum_active_models,
        device=settings.device,
        providers=settings.execution_providers,
    )

    def ready(running: Running) -> None:
        talk(f"serving {place} at {running.url}")

    serve(create_app(dataplane), host, port, on_ready=ready)
    talk("stopped")
