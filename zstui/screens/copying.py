"""To the clipboard, and to the screen: terminals and tmux drop the first without a word."""

from __future__ import annotations

from typing import Any

from textual.app import App

from zstui.screens.widgets.text import plain


def copy_and_show(app: App[Any], text: str) -> None:
    """Copy ``text``, which may come from a peer, and show it long enough to select it."""
    text = plain(text)
    app.copy_to_clipboard(text)
    app.notify(text, title="Copied (select it here if your terminal did not)", timeout=8, markup=False)
