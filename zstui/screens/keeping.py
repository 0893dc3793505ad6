"""Windows that write a file: a statement of account, and a backup of the node."""

from __future__ import annotations

import time
from pathlib import Path

from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from zstui import statement_file
from zstui.bridge import Bridge
from zstui.engine.commands import Backup, Statement
from zstui.engine.errors import BadInput
from zstui.engine.views import BackupView, ChannelView, StatementView, StatusView
from zstui.screens.dialog import Keys
from zstui.screens.form import Choice, Field, FieldError, Form, plain_input
from zstui.screens.values import ago, named, parse_duration, safe
from zstui.screens.widgets.text import short_id

BACKUP_DAYS = 7
"""A backup older than this is mentioned."""


def backup_age(status: StatusView) -> str:
    """ "never", or how long ago."""
    return "never, as far as this node knows" if status.backed_up_at is None else ago(status.backed_up_at)


def backup_notice(status: StatusView | None) -> str:
    """What to say about a backup that is missing or old; "" where it is recent, or the money is play money."""
    if status is None or status.demo:
        return ""
    if status.backed_up_at is None:
        return "Never backed up: what is owed to you would be lost with this machine. B makes a backup."
    old = time.time() - status.backed_up_at > BACKUP_DAYS * 86_400
    return f"The latest backup is of {ago(status.backed_up_at)}. B makes another." if old else ""


class _FileForm(Form[str | None]):
    """A form that writes one file and then says where it is. Dismissed with its path, or None."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__(bridge)
        self._written = ""

    def path(self) -> Path:
        """The file to write, absolute. Raises FieldError."""
        text = self.text_of("file")
        if not text:
            raise FieldError("file", "Give a file.")
        path = Path(text).expanduser()
        if not path.is_absolute():
            raise FieldError("file", "Give the whole path, from / or ~ on.")
        if path.exists():
            raise FieldError("file", f"{safe(str(path), 60)} exists already; choose another.")
        return path

    def written(self, path: str, text: str) -> None:
        self._written = path
        self.show_message(Content.assemble(("WRITTEN ", "bold $text-success"), safe(path, 300), f"  {text}"), "done")
        self.show_keys()

    def on_choice_changed(self) -> None:
        self._written = ""

    def action_submit(self) -> None:
        if self._written:
            self.dismiss(self._written)
        else:
            super().action_submit()

    def action_cancel(self) -> None:
        self.dismiss(self._written or None)


class StatementScreen(_FileForm):
    """A statement of account, with or without the signed evidence."""

    heading = "Statement of account"
    FORMS = (("json", "JSON with the signed evidence"), ("csv", "CSV for a spreadsheet"))

    def __init__(self, bridge: Bridge, channel: ChannelView | None = None) -> None:
        super().__init__(bridge)
        self._of = [("", "everything")]
        if channel is not None:
            self._of = [
                (channel.channel_id, f"this channel, {short_id(channel.channel_id)}"),
                (channel.peer_id, f"all with {named(channel.peer_name, channel.peer_id, 16)}"),
                *self._of,
            ]

    def content(self) -> ComposeResult:
        yield Field("Of", Choice(self._of, id="of-choice", spin=True), id="of")
        yield Field("Since", plain_input(placeholder="all time, or 30d"), id="since", unit="back from now")
        yield Field("As", Choice(self.FORMS, id="form-choice"), id="form")
        yield Field("File", plain_input(self._suggested("json"), limit=400), id="file")
        yield Static(
            "The JSON file holds every payment as it was signed: anyone can check it without a network, with "
            "zstui channel verify FILE. The file is written on this machine.",
            classes="note",
            markup=False,
        )

    def keys(self) -> Keys:
        if self._written:
            return (("Enter", "Done"), ("Esc", "Close"))
        return (("Enter", "Write the file"), ("Tab", "Next field"), ("←→", "Choose"), ("Esc", "Back"))

    @staticmethod
    def _suggested(form: str) -> str:
        return f"~/zstui-statement-{time.strftime('%Y-%m-%d-%H%M%S')}.{form}"

    def on_choice_changed(self) -> None:
        super().on_choice_changed()
        form = self.query_one("#form-choice", Choice).value
        other = "csv" if form == "json" else "json"
        text = self.text_of("file")
        if text.endswith(f".{other}"):
            self.query_one("#file", Field).set_text(text.removesuffix(other) + form)
        self.show_keys()

    def submit(self) -> None:
        path = self.path()
        since = int(time.time()) - self.read("since", parse_duration) if self.text_of("since") else None
        as_csv = self.query_one("#form-choice", Choice).value == "csv"

        def write(statement: StatementView) -> None:
            try:
                statement_file.write(path, statement, as_csv=as_csv, replace=False)
            except BadInput as error:
                self.show_problem(FieldError("file", str(error)))
                self.say("")
                return
            self.written(str(path), f"{len(statement.channels)} channels, {len(statement.payments)} entries")

        self.send(Statement(of=self.query_one("#of-choice", Choice).value, from_at=since), write)


class BackupScreen(_FileForm):
    """An encrypted copy of key, database and settings."""

    heading = "Back up this node"

    def content(self) -> ComposeResult:
        status = self.bridge.status
        name = safe(status.name, 20).replace("/", "-").replace(" ", "-") if status is not None else "node"
        yield Static(Content(f"Latest backup: {backup_age(status) if status else 'not known'}"), markup=False)
        suggested = f"~/zstui-{name}-{time.strftime('%Y-%m-%d-%H%M%S')}.backup"
        yield Field("File", plain_input(suggested, limit=400), id="file")
        yield Field("Passphrase", plain_input(limit=200, password=True), id="passphrase")
        yield Field("Once more", plain_input(limit=200, password=True), id="again")
        yield Static(
            "Holds the key, the channels and what is owed, encrypted. Whoever has the file and its passphrase owns this node: "
            "keep both, apart from each other, and not on this machine. zstui restore FILE says beforehand what comes back.",
            classes="note",
            markup=False,
        )

    def keys(self) -> Keys:
        if self._written:
            return (("Enter", "Done"), ("Esc", "Close"))
        return (("Enter", "Write the backup"), ("Tab", "Next field"), ("Esc", "Back"))

    def submit(self) -> None:
        path = self.path()
        passphrase = self.query_one("#passphrase", Field).text
        if passphrase != self.query_one("#again", Field).text:
            raise FieldError("again", "The two are not the same.")

        def done(view: BackupView) -> None:
            self.written(view.path, f"{view.size_bytes / 1e6:.1f} MB, {len(view.channels)} open channels")

        self.send(Backup(path=str(path), passphrase=passphrase), done)
