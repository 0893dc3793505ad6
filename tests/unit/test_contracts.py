from __future__ import annotations

import subprocess
import sys
import typing

import msgspec
import pytest

from zstui.engine import commands, errors, views


def test_the_engine_imports_no_user_interface() -> None:
    code = "import sys, zstui.engine.node, zstui.engine.control; sys.exit(bool({'textual', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_command_has_a_verb_and_a_result_type() -> None:
    from zstui.engine import control, verbs

    known = set(typing.get_args(commands.AnyCommand))
    assert set(verbs._VERBS) == known
    assert set(control._RESULTS) == {cls.__name__ for cls in known}
    defined = {
        cls
        for cls in vars(commands).values()
        if isinstance(cls, type) and issubclass(cls, commands.Command) and cls is not commands.Command
    }
    assert defined == known


def test_error_codes_are_unique_and_documented() -> None:
    leaves = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.ZsError)]
    assert len({cls.code for cls in leaves}) == len(leaves)
    for cls in leaves:
        assert cls.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize("cls", typing.get_args(views.Feed))
def test_feed_events_are_tagged_by_their_name(cls: type[msgspec.Struct]) -> None:
    assert cls.__struct_config__.tag == cls.__name__
