from __future__ import annotations

import stat
from pathlib import Path

import pytest

from zstui.engine.config import load
from zstui.engine.errors import BadInput, HomeError, HomeLocked
from zstui.engine.home import Home


def test_a_second_node_is_refused_and_told_who_is_there(tmp_path: Path) -> None:
    first, second = Home(tmp_path / "h"), Home(tmp_path / "h")
    assert not first.running()
    first.acquire()
    assert second.running()
    with pytest.raises(HomeLocked, match="process"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()


def test_only_the_owner_may_look(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    home.acquire()
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    home.release()


def test_a_home_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "h").write_text("in the way")
    with pytest.raises(HomeError, match="Cannot use the home directory"):
        Home(tmp_path / "h").acquire()


def test_a_long_home_still_gets_a_socket(tmp_path: Path) -> None:
    assert len(str(Home(tmp_path / ("x" * 120)).socket)) < 100


def test_boots_are_counted_outside_the_database(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    home.acquire()
    assert home.read_boots() == 0
    home.write_boots(7)
    assert home.read_boots() == 7
    home.release()


def test_settings_from_file_environment_and_arguments(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('name = "file"\nprice_per_second = "0.5"\nmax_memory_mib = 64\n')
    settings = load(tmp_path, {"listen": "127.0.0.1:1", "name": None}, {"ZSTUI_NAME": "env", "ZSTUI_TAGS": "a,b"})
    assert settings.name == "env"
    assert settings.price_per_second_nano == 500_000_000
    assert settings.max_memory_mib == 64
    assert settings.listen == "127.0.0.1:1"
    assert settings.tags == ("a", "b")
    assert load(tmp_path, {"metrics": "none", "mdns_interface": "none"}, {}).metrics is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nonsense = 1", "nonsense"),
        ("name = 3", "name"),
        ('listen = "here"', "here"),
        ("[[[", "config.toml"),
        ("max_memory_mib = 4096", "128 MiB"),
        ('price_per_second = "-1"', "-1"),
        ("price_per_mib_nano = -1", "price_per_mib_nano"),
        ("max_jobs = -1", "max_jobs"),
        (f"tags = {['x'] * 17}", "tags"),
    ],
)
def test_wrong_settings_name_the_value(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(BadInput, match=says):
        load(tmp_path, {}, {})
