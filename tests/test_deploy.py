"""The files of `deploy/`: each is run, or checked by the program that it is for, where that is installed."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from programs import PATIENCE, printed, program, wait_until
from serving import free_port

from bnn.app import Address, served
from bnn.classifier import Classifier

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
FOUR = (ROOT / "docs" / "four.png").read_bytes()
NGINX = """
error_log stderr;
pid {folder}/pid;
events {{}}
http {{
    access_log off;
    {temporary}
    server {{
        listen 127.0.0.1:{port};
        include {folder}/location;
    }}
}}
"""
KINDS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")  # of temporary files

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed (it comes with the group docs)")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def installed(name: str) -> str:
    """Where a program is; without it the test is skipped."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def text(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


def answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


@contextmanager
def nginx(folder: Path, target: int) -> Iterator[int]:
    """nginx as deploy/nginx.conf has it, before the page at the port `target`; its own port."""
    port = free_port()
    (folder / "location").write_text(text("nginx.conf").replace("7860", str(target)))
    temporary = "\n".join(f"{kind}_temp_path {folder}/{kind};" for kind in KINDS)
    (folder / "conf").write_text(NGINX.format(folder=folder, temporary=temporary, port=port))
    options = ("-p", str(folder), "-c", str(folder / "conf"), "-e", "stderr", "-g", "daemon off;")
    with program(installed("nginx"), *options) as process:
        wait_until(lambda: answers(port), process)
        yield port


@contextmanager
def caddy(folder: Path, target: int) -> Iterator[int]:
    """Caddy as deploy/Caddyfile has it, but without TLS."""
    port = free_port()
    site = text("Caddyfile").replace("example.org", f"http://127.0.0.1:{port}").replace("7860", str(target))
    (folder / "Caddyfile").write_text("{\n\tadmin off\n\tauto_https off\n}\n" + site)
    options = ("run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile"))
    environment = os.environ | {"HOME": str(folder)}
    with program(installed("caddy"), *options, env=environment) as process:
        wait_until(lambda: answers(port), process)
        yield port


@pytest.mark.parametrize("proxy", [nginx, caddy])
def test_behind_the_proxy_the_page_is_whole_and_programs_and_uploads_get_through(
    proxy: Callable[[Path, int], AbstractContextManager[int]], classifier: Classifier, tmp_path: Path
) -> None:
    os.chmod(tmp_path, 0o755)  # noqa: PTH101  # whoever the proxy runs as may read it
    address = Address(port=free_port(), root_path="/digits", proxies=["127.0.0.1"])
    with (
        served(classifier, address),
        proxy(tmp_path, address.port) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}/digits", timeout=PATIENCE) as visitor,
    ):
        page = visitor.get("/")
        assert page.is_success
        assert visitor.get("/config").json()["root"] == f"http://127.0.0.1:{port}/digits"
        assets = [part.split('"')[0] for part in page.text.split('="./')[1:]]
        assert any(asset.endswith(".js") for asset in assets)
        assert all(visitor.get(f"/{asset}").is_success for asset in assets[:5])
        (path,) = visitor.post("/gradio_api/upload", files={"files": ("a.png", FOUR)}).json()
        assert Path(path).read_bytes() == FOUR
        decision = visitor.post("/v1/classify", content=FOUR).json()
        assert (decision["label"], decision["reason"]) == (4, "answered")
        for _ in range(8):  # a stream whose head came at once was dropped by Caddy, one time in ten
            lines = visitor.post("/v1/classify-batch", files=[("images", FOUR)] * 3).text.splitlines()
            assert len(lines) == 3


def test_the_workers_upstream_is_what_nginx_takes(tmp_path: Path) -> None:
    shown = text("nginx.conf").replace("http://127.0.0.1:7860/", "http://digits/")
    (tmp_path / "location").write_text(shown)
    whole = NGINX.format(folder=tmp_path, temporary=text("nginx-workers.conf"), port=free_port())
    (tmp_path / "conf").write_text(whole)
    options = ("-t", "-p", str(tmp_path), "-c", str(tmp_path / "conf"), "-e", "stderr")
    done = subprocess.run([installed("nginx"), *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_unit_is_sound_and_lets_the_page_do_little_else(tmp_path: Path) -> None:
    analyze = installed("systemd-analyze")
    unit = tmp_path / "bnn.service"
    unit.write_text(text("bnn.service").replace("/opt/bnn/.venv/bin/bnn", sys.executable))
    done = subprocess.run(
        [analyze, "verify", "--recursive-errors=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    printed(analyze, "security", "--offline=true", "--threshold=25", str(unit))  # of 100: exposed


def test_the_container_serves_whom_the_compose_file_says_and_nobody_else() -> None:
    (service,) = yaml.safe_load(text("compose.yaml"))["services"].values()
    assert (DEPLOY / service["build"]["context"]).resolve() == ROOT
    assert (ROOT / service["build"]["dockerfile"]).is_file()
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    steps = text("Dockerfile").splitlines()
    assert steps.index("USER bnn") < next(n for n, step in enumerate(steps) if step.startswith("CMD"))
    copied = re.findall(r"^COPY (.+) \S+$", "\n".join(steps), re.MULTILINE)
    assert all((ROOT / name).exists() for names in copied for name in names.split())


def test_the_folder_of_a_space_has_what_its_image_copies(tmp_path: Path) -> None:
    out = tmp_path / "space"
    script = str(DEPLOY / "space.sh")
    printed("sh", script, str(out))
    _, header, _ = (out / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert yaml.safe_load(header)["sdk"] == "docker"
    recipe = (out / "Dockerfile").read_text()
    assert f"EXPOSE {yaml.safe_load(header)['app_port']}" in recipe
    assert '--name "$SPACE_HOST"' in recipe
    copied = re.findall(r"^COPY (.+) \S+$", recipe, re.MULTILINE)
    assert all((out / name).exists() for names in copied for name in names.split())
    again = subprocess.run(["sh", script, str(out)], capture_output=True, text=True, check=False)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
