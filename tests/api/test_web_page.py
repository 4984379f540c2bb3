"""The files of the page as a browser gets them."""

import re
from pathlib import Path

from pipeline.api.web_page import FOLDER
from tests.api.conftest import Service, StartService


async def test_the_page_names_only_files_that_are_served(service: Service) -> None:
    async with service.session.get(f"{service.url}/") as reply:
        assert (reply.status, reply.content_type) == (200, "text/html")
        page = await reply.text()
    named = re.findall(r'(?:src|href)="(/web/[^"]+)"', page)
    assert {"/web/main.js", "/web/vendor/mpegts/mpegts.js"} <= set(named)
    for name in named:
        async with service.session.get(service.url + name) as reply:
            assert reply.status == 200, name
            assert reply.headers["X-Content-Type-Options"] == "nosniff"


async def test_every_module_that_a_module_imports_is_there() -> None:
    modules = [path for path in FOLDER.rglob("*.js") if "vendor" not in path.parts]
    assert len(modules) > 5
    for module in modules:
        for imported in re.findall(r'from "(\./[^"]+)"', module.read_text()):
            assert (module.parent / imported).is_file(), f"{module.name} imports {imported}"


async def test_the_page_may_run_nothing_but_its_own_files(service: Service) -> None:
    async with service.session.get(f"{service.url}/") as reply:
        policy = reply.headers["Content-Security-Policy"]
        page = await reply.text()
    assert policy.startswith("default-src 'self';")
    assert "unsafe" not in policy
    assert "<script>" not in page
    assert not re.search(r'\son\w+="|style="|https?://', page)


async def test_a_file_that_a_browser_has_is_not_sent_again(service: Service) -> None:
    url = f"{service.url}/web/main.js"
    async with service.session.get(url) as reply:
        assert reply.content_type == "text/javascript"
        tag = reply.headers["ETag"]
        assert reply.headers["Cache-Control"] == "no-cache"
    async with service.session.get(url, headers={"If-None-Match": tag}) as reply:
        assert (reply.status, await reply.read()) == (304, b"")
    async with service.session.get(url, headers={"If-None-Match": '"another"'}) as reply:
        assert reply.status == 200


async def test_no_name_leads_out_of_the_folder(service: Service) -> None:
    for name in ("../app.py", "..%2Fapi%2Fapp.py", "none.js", "%2e%2e/api/app.py", "/etc/passwd"):
        status, answer = await service.get(f"/web/{name}")
        assert (status, answer["status"]) == (404, "error"), name


async def test_the_page_itself_needs_no_token(start_service: StartService) -> None:
    service = await start_service(tokens=["api-secret-1"])
    for path in ("/", "/web/main.js"):
        async with service.session.get(service.url + path) as reply:
            assert reply.status == 200
    assert (await service.get("/updates"))[0] == 401
    assert (await service.get("/watch/output.ts"))[0] == 401


def test_the_third_partys_licence_lies_beside_it() -> None:
    folder = Path(FOLDER, "vendor/mpegts")
    assert "Apache License" in (folder / "LICENSE.txt").read_text()
    assert "1.8.2" in (folder / "README.md").read_text()
