"""A command line for one stream of a node, and an example of its client:

python examples/comfystream_trickle_client.py start --workflow workflow_api.json --publish film.mp4
python examples/comfystream_trickle_client.py update --params '{"strength": 2}'
python examples/comfystream_trickle_client.py status
python examples/comfystream_trickle_client.py stop
"""

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any

try:
    from pipeline.client import ClientError, ComfyStreamTrickleClient
    from pipeline.media.errors import MediaError
    from pipeline.trickle.bearer import TokenMissing
    from pipeline.trickle.tls import TlsFileError
except ImportError as missing:
    sys.exit(f"livepipe is not installed ({missing}); run: pip install -e {Path(__file__).resolve().parent.parent}")

EXIT_FAILED, EXIT_USAGE = 1, 2


class Mistake(Exception):
    """In what was asked for; one line."""


def main() -> int:
    options = _parser().parse_args()
    try:
        return asyncio.run(_run(options))
    except (Mistake, TokenMissing, TlsFileError, ValueError) as mistake:
        print(mistake, file=sys.stderr)
        return EXIT_USAGE
    except ClientError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_FAILED


async def _run(options: argparse.Namespace) -> int:
    async with ComfyStreamTrickleClient(
        options.host,
        options.port,
        media_ports=tuple(options.media_ports),
        token=options.token,
        media_token=options.media_token,
        ca=options.ca,
    ) as client:
        client.stream_id = options.stream
        client.subscribe_url = options.subscribe_url or client.subscribe_url
        client.publish_url = options.publish_url or client.publish_url
        answer = await COMMANDS[options.command](client, options)
    print(json.dumps(answer, indent=2))
    return 0


async def _start(client: ComfyStreamTrickleClient, options: argparse.Namespace) -> dict[str, Any]:
    answer = await client.start_stream(
        _workflow(options), options.width, options.height, params=_params(options), stream_id=options.stream
    )
    if options.publish is None:
        return answer
    print(json.dumps(answer, indent=2), f"playing {options.publish} into {client.subscribe_url}", sep="\n", flush=True)
    try:
        published = await client.publish_file(options.publish)
    except MediaError as error:
        raise Mistake(str(error)) from error
    return {"segments": published.segments, "segments_lost": published.segments_lost, "bytes": published.bytes}


async def _update(client: ComfyStreamTrickleClient, options: argparse.Namespace) -> dict[str, Any]:
    workflow, params = _workflow(options), _params(options)
    if workflow is None and params is None:
        raise Mistake("update: nothing to change; give --workflow, --params or both")
    answer: dict[str, Any] = {}
    if workflow is not None:
        answer = await client.update_prompts(workflow, options.width, options.height)
    if params is not None:
        answer = await client.update_params(params)
    return answer


async def _status(client: ComfyStreamTrickleClient, _options: argparse.Namespace) -> dict[str, Any]:
    return await client.get_status()


async def _stop(client: ComfyStreamTrickleClient, _options: argparse.Namespace) -> dict[str, Any]:
    return await client.stop_stream()


COMMANDS = {"start": _start, "update": _update, "status": _status, "stop": _stop}


def _workflow(options: argparse.Namespace) -> Any:
    if options.workflow is None:
        return None
    try:
        return json.loads(options.workflow.read_text())
    except OSError as error:
        raise Mistake(f"{options.workflow}: {error.strerror}") from error
    except ValueError as error:
        raise Mistake(f"{options.workflow}: no JSON: {error}") from error


def _params(options: argparse.Namespace) -> dict[str, Any] | None:
    if options.params is None:
        return None
    try:
        params = json.loads(options.params)
    except ValueError as error:
        raise Mistake(f"--params: no JSON: {error}") from error
    if not isinstance(params, dict):
        raise Mistake("--params: needed is a JSON object, such as '{\"strength\": 2}'")
    return params


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=9876, help="of the node's HTTP service")
    parser.add_argument("--media-ports", type=int, nargs=2, default=(5678, 5679), metavar=("IN", "OUT"))
    parser.add_argument("--subscribe-url", help="the channel that the node reads, in the place of the one on IN")
    parser.add_argument("--publish-url", help="the channel that the node writes, in the place of the one on OUT")
    parser.add_argument("--stream", metavar="ID", help="the stream's id, where there may be several")
    parser.add_argument("--token", help="for the HTTP service; '${NAME}' is an environment variable")
    parser.add_argument("--media-token", help="for the channels; '${NAME}' is an environment variable")
    parser.add_argument("--ca", metavar="FILE", help="use https, and trust this PEM file")
    parser.add_argument("--workflow", type=Path, metavar="FILE", help="a ComfyUI workflow in the API format")
    parser.add_argument("--params", metavar="JSON", help="parameters of the processor")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--height", type=int, default=512)
    parser.add_argument("--publish", type=Path, metavar="FILE", help="after the start, play this video into the stream")
    return parser


if __name__ == "__main__":
    sys.exit(main())
