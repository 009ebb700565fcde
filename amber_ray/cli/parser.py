"""The words of the command line. Must not know: what they do; `run` names the function, imported when run."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from amber_ray.errors import did_you_mean

DEFAULT_SERVER = "http://127.0.0.1:8000"
DEFAULT_STORE = "./amber-store"
STATES = ("running", "done", "failed", "cancelled")
KINDS = ("video", "audio", "image")
PRIORITIES = ("interactive", "ingest", "backfill")


class Parser(argparse.ArgumentParser):
    """argparse, with an error in one sentence."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where help is, then exit with status 2."""
        self.exit(2, f"{self.prog}: {message} ({self.prog} --help lists what can be given)\n")

    def read(self, words: Sequence[str] | None) -> argparse.Namespace:
        """`parse_args`; of a word that nobody takes, the command tells that it was given to."""
        found, rest = self.parse_known_args(words)
        if rest:
            command: Parser = found.command
            name = rest[0].partition("=")[0]
            if not name.startswith("-"):
                command.error(f"{name!r} is one word too many")
            near = did_you_mean(name, command._option_string_actions)
            command.error(f"there is no option {name}" + (f"; {near}" if near else ""))
        return found

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:
            hint = did_you_mean(value, action.choices, f"the commands are {', '.join(action.choices)}")
            raise argparse.ArgumentError(None, f"there is no command {value!r}; {hint}")
        super()._check_value(action, value)


def build() -> Parser:
    """The parser of the whole command."""
    parser = Parser(
        prog="amber",
        description="A media feature store that computes on demand.",
        epilog="Without --server, a command works on a local store by itself. See also: amber COMMAND --help",
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    serve = _command(commands, "serve", "serve features over HTTP", "serve:run")
    _own(serve)
    serve.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (other than loopback: needs tokens)"
    )
    serve.add_argument("--port", type=_port, default=8000, help="where to listen (default 8000)")
    serve.add_argument("--shards", type=int, default=1, metavar="N", help="cache actors (default 1)")
    serve.add_argument("--replicas", type=int, default=1, metavar="N", help="HTTP replicas (default 1)")
    serve.add_argument(
        "--token",
        action="append",
        default=[],
        help="an API token to accept, any number of times (or AMBER_TOKENS, separated by commas)",
    )
    serve.add_argument(
        "--register",
        action="store_true",
        help="take features from clients and run their code, of callers whose token has the scope operate "
        "(without tokens: of any program on this machine)",
    )
    serve.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="a web page's origin (https://app.example) that may ask from a browser, any number of times",
    )
    serve.add_argument(
        "--callback-host",
        action="append",
        default=[],
        metavar="HOST",
        help="a host that requests may have called when they have ended (hooks.example, hooks.example:8443), "
        "any number of times; AMBER_CALLBACK_SECRETS has what calls are signed with, separated by commas",
    )
    serve.add_argument(
        "--callback-address",
        action="append",
        default=[],
        metavar="NETWORK",
        help="an address or a network that may be called though it is not of the public internet",
    )
    serve.add_argument(
        "--remote-scheme",
        action="append",
        default=[],
        metavar="SCHEME",
        help="also read media from SCHEME:// URLs",
    )
    serve.add_argument(
        "--drain-seconds",
        type=float,
        metavar="N",
        help="how long callers who wait are given when the server is told to stop (default 10)",
    )
    serve.add_argument("--access-log", action="store_true", help="log every request, on stderr")
    serve.add_argument(
        "--slow-seconds", type=float, metavar="N", help="log requests that take this long (default 10)"
    )
    serve.add_argument("--log-format", choices=("text", "json"), help="lines of the log (default text)")
    serve.add_argument(
        "--trace-endpoint",
        metavar="URL",
        help="send traces there, by OTLP over HTTP (default OTEL_EXPORTER_OTLP_ENDPOINT)",
    )
    serve.add_argument(
        "--trace-share", type=float, metavar="N", help="record so many of new traces, from 0 to 1 (default 1)"
    )

    deploy = _command(commands, "deploy", "deploy on a running Ray; notices changed code", "deploy:run")
    deploy.add_argument("config", metavar="FILE", help="a Serve config file, such as deployments/serve.yaml")
    deploy.add_argument(
        "-a", "--address", metavar="URL", help="the dashboard (default RAY_DASHBOARD_ADDRESS, else port 8265)"
    )
    deploy.add_argument(
        "--revision", metavar="WORD", help="what stands for the code (default: its digest, as it is here)"
    )

    get = _command(commands, "get", "compute features of assets, or read them", "get:run")
    _asking(get)
    _own(get)
    _server(get)
    get.add_argument(
        "--format",
        choices=("table", "json", "arrow", "npy", "vtt", "srt"),
        default="table",
        help="how to print or write values (default table: in a few words); vtt and srt: as subtitles",
    )
    get.add_argument("--out", metavar="FILE_OR_DIR", help="write values there; a JPEG becomes a .jpg file")
    _waiting(get)

    explain = _command(commands, "explain", "say what asking would do; run nothing", "look:explain")
    _asking(explain)
    _own(explain)
    _server(explain)
    _as_json(explain)

    features = _command(commands, "features", "list features, or show one", "look:features")
    features.add_argument("feature", nargs="?", metavar="FEATURE")
    _features(features)
    _server(features)
    _as_json(features)

    assets = _command(commands, "assets", "list the media that are known", "known:assets")
    assets.add_argument(
        "prefix", nargs="?", default="", metavar="PREFIX", help="what the place begins with, as /media/films/"
    )
    assets.add_argument("--kind", choices=KINDS, help="only media of this kind")
    assets.add_argument(
        "--min-duration", type=float, metavar="SECONDS", help="only media of this length or more"
    )
    assets.add_argument(
        "--max-duration", type=float, metavar="SECONDS", help="only media of this length or less"
    )
    _limit(assets)
    _own(assets)
    _server(assets)
    _as_json(assets)

    graph = _command(commands, "graph", "draw the graph of features, or what one stands on", "graph:run")
    graph.add_argument("feature", nargs="?", metavar="FEATURE")
    drawn = graph.add_mutually_exclusive_group()
    drawn.add_argument("--dot", action="store_true", help="in Graphviz's language")
    drawn.add_argument("--mermaid", action="store_true", help="in Mermaid's language")
    _features(graph)
    _server(graph)

    status = _command(commands, "status", "show a server's counters, or one request", "look:status")
    status.add_argument("request", nargs="?", metavar="REQUEST_ID")
    _server(status, default=DEFAULT_SERVER)
    _as_json(status)

    requests = _command(
        commands, "requests", "list a server's requests and what became of them", "known:requests"
    )
    requests.add_argument("--state", choices=STATES, help="only those in this state")
    requests.add_argument("--tenant", help="only those of this tenant")
    _limit(requests)
    _server(requests, default=DEFAULT_SERVER)
    _as_json(requests)

    lineage = _command(
        commands, "lineage", "show what a value was made from, down to the media", "known:lineage"
    )
    lineage.add_argument("key", metavar="KEY", help="the value's key, as results and answers have it")
    _own(lineage)
    _server(lineage)
    _as_json(lineage)

    failures = _command(commands, "failures", "list the failures a server remembers", "look:failures")
    _server(failures, default=DEFAULT_SERVER)
    _as_json(failures)

    deliveries = _command(
        commands, "deliveries", "list callbacks of a server, or make one again", "deliveries:run"
    )
    chosen = deliveries.add_mutually_exclusive_group()
    chosen.add_argument(
        "--state", choices=("waiting", "pending", "delivered", "failed"), help="only those in this state"
    )
    chosen.add_argument("--replay", metavar="ID", help="send this one again, whatever came of it")
    _server(deliveries, default=DEFAULT_SERVER)
    _as_json(deliveries)

    audit = _command(commands, "audit", "list who changed what, the newest first", "known:audit")
    audit.add_argument(
        "--since", metavar="TIME", help="only from then on: 90m, 12h, 7d ago, or 2026-11-29, 2026-11-29T13:00"
    )
    audit.add_argument("--tenant", help="only changes of this tenant")
    audit.add_argument("--what", metavar="CHANGE", help="only this, such as values.purged or demand.kept")
    _limit(audit)
    audit.add_argument("--store", metavar="DIR_OR_URL", help=f"the store (default {DEFAULT_STORE})")
    _server(audit)
    _as_json(audit)

    backfill = _command(
        commands, "backfill", "compute features of many assets, least urgent first", "backfill:run"
    )
    backfill.epilog = "What is in the store already is not computed again: after a crash, say it again."
    _catalogue(backfill)
    backfill.add_argument(
        "--window", type=int, default=1024, metavar="N", help="most assets under way (default 1024)"
    )
    backfill.add_argument(
        "--failures",
        metavar="FILE",
        help="write what failed there, as Parquet (default backfill-failures.parquet, if anything fails)",
    )
    backfill.add_argument(
        "--skip-unsuitable",
        action="store_true",
        help="leave out assets whose kind can't have a feature, as sound of which pictures are asked for",
    )
    _own(backfill)
    _server(backfill)
    _waiting(backfill, priority="backfill")

    _keep(
        _command(
            commands, "keep", "keep features true for all that is under folders and prefixes", "keep:run"
        )
    )

    export = _command(
        commands, "export", "write features of many assets as a training set of Parquet files", "export:run"
    )
    export.epilog = "A feature may be pinned, as embedding@1: another version is refused."
    _catalogue(export)
    export.add_argument(
        "--out", required=True, metavar="DIR", help="the folder to write, which must be new or empty"
    )
    export.add_argument("--compute", action="store_true", help="compute what is missing first")
    export.add_argument(
        "--window", type=int, default=256, metavar="N", help="assets looked at together (default 256)"
    )
    export.add_argument(
        "--shard-bytes",
        type=_bytes,
        default=256 << 20,
        metavar="N",
        help="begin a new file after this many bytes of values (default 256 MiB)",
    )
    _own(export)
    _server(export)
    _waiting(export, priority="backfill")

    purge = _command(commands, "purge", "forget values", "store:purge")
    purge.add_argument("--asset", help="of this path, URI or asset id")
    purge.add_argument("--feature", help="of this feature")
    purge.add_argument("--version", help="of this version")
    _own(purge)
    _server(purge)

    stale = _command(commands, "stale", "list stored versions that the code does not make", "versions:stale")
    prune = _command(
        commands, "prune", "delete stored versions that the code does not make", "versions:prune"
    )
    prune.epilog = (
        "Without --yes it only says what would be deleted. Features that are not registered here keep their "
        "values unless they are named by --feature."
    )
    for command in (stale, prune):
        command.add_argument(
            "--feature", action="append", default=[], metavar="NAME", help="of this feature, any number"
        )
        _own(command)
        _server(command)
        _as_json(command)
    prune.add_argument("--yes", action="store_true", help="delete them")

    diff = _command(commands, "diff", "compare the stored values of two versions", "diff:run")
    diff.epilog = "It reads the store itself, so it needs neither a server nor the code of either version."
    diff.add_argument("feature", metavar="FEATURE")
    diff.add_argument(
        "old",
        nargs="?",
        metavar="OLD",
        help="a version, or its beginning (default: the one made last but one)",
    )
    diff.add_argument(
        "new", nargs="?", metavar="NEW", help="another one (default: of the others, the one made last)"
    )
    diff.add_argument("--worst", type=int, default=5, metavar="N", help="examples to show (default 5)")
    diff.add_argument("--store", metavar="DIR_OR_URL", help=f"the values (default {DEFAULT_STORE})")
    _as_json(diff)

    check = _command(
        commands, "check", "find features whose code changed under the same version", "store:check"
    )
    check.add_argument(
        "--accept", action="store_true", help="take the code as it is now for what the version means"
    )
    _features(check)
    check.add_argument("--store", default=DEFAULT_STORE, metavar="DIR_OR_URL")

    _token(_command(commands, "token", "make, list and revoke a store's API tokens", "token:new"))

    demo = _command(
        commands, "demo", "serve, compute features of a sample clip, and show what was cached", "demo:run"
    )
    demo.add_argument("--out", default="./demo-out", metavar="DIR", help="where images and the store go")
    demo.add_argument("--port", type=_port, help="the server's port (default: a free one; 8000 with --serve)")
    demo.add_argument(
        "--serve", action="store_true", help="keep what the last demo stored, and the server up until Ctrl-C"
    )
    return parser


class _Version(argparse.Action):
    """`--version`, which reads the package's metadata only when asked."""

    def __init__(self, option_strings: list[str], dest: str, **_: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help="show the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        parser.exit(0, f"amber {version('amber-ray')}\n")


def _command(commands: Any, name: str, says: str, run: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=says, description=says[0].upper() + says[1:] + ".", allow_abbrev=False
    )
    command.set_defaults(run=run, command=command)
    command.add_argument(
        "--debug", action="store_true", help="show the traceback of an error, also of a feature's own"
    )
    command.add_argument("-q", "--quiet", action="store_true", help="no progress, nothing but the answer")
    return command


def _token(command: argparse.ArgumentParser) -> None:
    command.epilog = (
        "Works while a server owns the store, and without one: servers look for new and revoked tokens by "
        "themselves."
    )
    actions = command.add_subparsers(metavar="new | list | revoke", required=True)

    new = _command(actions, "new", "make a token and print it, this once", "token:new")
    new.add_argument("name", metavar="NAME", help="what it is called in lists and messages")
    new.add_argument(
        "--tenant", default="default", help="whose requests it asks for: no others (default default)"
    )
    new.add_argument(
        "--scope",
        required=True,
        metavar="SCOPE[,SCOPE...]",
        help="what it is good for: read, compute, upload, operate (purges; registering code)",
    )
    new.add_argument("--expires", metavar="90d", help="how long it is good for: minutes, hours, days, weeks")
    new.add_argument("--rate", type=float, metavar="N", help="at most N requests a second (default: any)")
    new.add_argument(
        "--at-once", type=int, metavar="N", help="at most N requests under way at once (default: any)"
    )

    listed = _command(actions, "list", "list the tokens, also those that are good no more", "token:listed")
    _as_json(listed)

    revoke = _command(actions, "revoke", "revoke a token", "token:revoke")
    revoke.add_argument("name", metavar="NAME")

    for action in (new, listed, revoke):
        action.add_argument("--store", default=DEFAULT_STORE, metavar="DIR_OR_URL")


def _keep(command: argparse.ArgumentParser) -> None:
    command.epilog = "Whichever server owns the store sees to it from now on, also after a restart."
    command.add_argument("name", nargs="?", metavar="NAME", help="what the demand is called")
    command.add_argument("--list", action="store_true", help="list all demands")
    command.add_argument("--status", metavar="NAME", help="show how one stands (exit status 1: not all true)")
    command.add_argument("--stop", metavar="NAME", help="keep one no more; what is stored stays")
    command.add_argument(
        "--changed",
        action="append",
        default=[],
        metavar="PLACE",
        help="tell that a file, folder or URL appeared, changed or went: look now; any number of times",
    )
    command.add_argument(
        "--features",
        dest="wanted",
        action="append",
        default=[],
        metavar="FEATURE[,FEATURE...]",
        help="what is kept true, as the server's features are called",
    )
    command.add_argument(
        "--assets",
        action="append",
        default=[],
        metavar="PREFIX",
        help="a folder or file, or a URL; one that ends with / has all below it; any number of times",
    )
    _param(command)
    command.add_argument(
        "--every", type=float, default=60.0, metavar="S", help="seconds from look to look (default 60)"
    )
    command.add_argument(
        "--gone",
        choices=("keep", "purge"),
        default="keep",
        help="what becomes of values of assets that are nowhere any more (default keep)",
    )
    command.add_argument(
        "--settle",
        type=float,
        default=5.0,
        metavar="S",
        help="how long a local file must have stood still before it is taken (default 5)",
    )
    command.add_argument(
        "--callback", metavar="URL", help="have this called with news, on a server that allows its host"
    )
    command.add_argument(
        "--on",
        action="append",
        default=[],
        metavar="EVENT[,EVENT...]",
        help="of what --callback is told: done (all is true), failed (assets fail), result (assets became "
        "true); default done,failed",
    )
    command.add_argument("--tenant", default="default", help="in whose name to ask")
    _server(command, default=DEFAULT_SERVER)
    _as_json(command)


def _asking(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "wanted",
        metavar="FEATURE[,FEATURE...]",
        help="as `amber features` lists them; NAME@VERSION reads what is stored of another version",
    )
    command.add_argument("assets", nargs="+", metavar="PATH_OR_URI", help="media files; or an asset's id")
    _param(command)
    command.add_argument("--range", metavar="A:B", help="only the segments that seconds A to B touch")
    command.add_argument("--refresh", action="store_true", help="compute anew")


def _catalogue(command: argparse.ArgumentParser) -> None:
    command.add_argument("features_wanted", nargs="+", metavar="FEATURE")
    command.add_argument(
        "--assets",
        action="append",
        required=True,
        metavar="GLOB_OR_LIST_OR_PREFIX",
        help="a path, URI, folder, glob pattern, prefix (s3://bucket/films/), or @FILE with one of these a "
        "line; any number of times",
    )
    _param(command)


def _param(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="FEATURE.NAME=VALUE",
        help="a parameter, such as frames.fps=1, any number of times; `amber features` lists them",
    )


def _waiting(command: argparse.ArgumentParser, priority: str = "interactive") -> None:
    command.add_argument("--timeout", type=float, metavar="SECONDS", help="wait no longer than this")
    command.add_argument(
        "--priority", choices=PRIORITIES, default=priority, help=f"how urgent it is (default {priority})"
    )
    command.add_argument("--tenant", default="default", help="in whose name to ask")


def _features(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--features",
        action="append",
        default=[],
        metavar="MODULE_OR_FILE",
        help="also register this module's features, any number of times",
    )


def _own(command: argparse.ArgumentParser) -> None:
    """What an Amber of one's own is told; `--server` excludes it. Defaults are None to see what was given."""
    _features(command)
    command.add_argument(
        "--media-root", action="append", default=[], metavar="DIR", help="read media from here only"
    )
    command.add_argument("--store", metavar="DIR_OR_URL", help=f"the values (default {DEFAULT_STORE})")
    command.add_argument(
        "--segment-seconds", type=float, metavar="S", help="length of a segment (default 60)"
    )
    command.add_argument("--num-gpus", type=float, metavar="N", help="GPUs to use (default: those there are)")
    command.add_argument(
        "--memory-bytes", type=_bytes, metavar="N", help="memory for values, such as 500M or 2G (default 1G)"
    )


def _server(command: argparse.ArgumentParser, default: str | None = None) -> None:
    says = f" (default {default})" if default else ""
    command.add_argument("--server", default=default, metavar="URL", help=f"ask this server{says}")
    command.add_argument("--token", help="the server's API token (or AMBER_TOKEN)")


def _as_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--format", choices=("table", "json"), default="table", help="(default table)")


def _limit(command: argparse.ArgumentParser) -> None:
    command.add_argument("--limit", type=_many, default=100, metavar="N", help="show so many (default 100)")


def _many(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text) < 10**9):
        raise argparse.ArgumentTypeError(f"a number from 1, not {text!r}")
    return int(text)


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"a port is 0 to 65535, not {text!r}")
    return int(text)


def _bytes(text: str) -> int:
    """`1000`, `500M`, `1.5GiB`: units are powers of 1024."""
    said = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    if said is None:
        raise argparse.ArgumentTypeError(f"a number of bytes, such as 500M or 2G, not {text!r}")
    return int(float(said[1]) * 1024 ** " kmgt".index(said[2] or " "))
