"""The base screen: the frame around the seven panes, and every key that works in all of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.widgets import Input

from zstui.bridge import Bridge
from zstui.engine.commands import SetName
from zstui.engine.money import format_amount
from zstui.screens.approve import ApprovePane
from zstui.screens.channels import ChannelsPane
from zstui.screens.copying import copy_and_show
from zstui.screens.dialogs import FirstRunScreen, QuitScreen, TextInputScreen, in_flight
from zstui.screens.guild_news import GuildNews
from zstui.screens.guilds import GuildsPane
from zstui.screens.help import HelpScreen
from zstui.screens.jobs import JobsPane
from zstui.screens.keeping import BackupScreen
from zstui.screens.keys import Action, actions_of, declared, keys_of, name_of, raw_keys
from zstui.screens.log import LogPane, log_line
from zstui.screens.palette import ActionsProvider
from zstui.screens.pane import Pane
from zstui.screens.pay import PayScreen
from zstui.screens.peers import PeersPane
from zstui.screens.ranks import RanksPane
from zstui.screens.widgets.bars import GuideBar, HeaderBar, Hint, HintBar, NoteBar, TabBar
from zstui.screens.widgets.guide import next_step
from zstui.screens.widgets.lines import LinesView
from zstui.screens.widgets.table import LineTable
from zstui.screens.widgets.text import clip, plain

PANES: tuple[type[Pane[Any]], ...] = (PeersPane, GuildsPane, JobsPane, ChannelsPane, RanksPane, ApprovePane, LogPane)
GUILDS, APPROVE, LOG = PANES.index(GuildsPane), PANES.index(ApprovePane), PANES.index(LogPane)
TAIL = 10
"""Rows of the log tail on a large screen."""
TELL_S = 0.5
"""After a request has come, before it is told that it waits."""

SHOWN_EVERYWHERE = (
    ("view.help", "Help"),
    ("view.approvals", "Approvals"),
    ("view.filter", "Filter"),
    ("view.sort", "Sort"),
    ("view.copy", "Copy"),
    ("view.freeze", "Pause"),
    ("table.open", ""),
    ("view.palette", ""),
)


class MainScreen(Screen[None]):
    """Holds all panes and shows one. Arriving data never changes pane, focus or cursor."""

    CSS_PATH = "main.tcss"
    COMMANDS = {ActionsProvider}  # noqa: RUF012 - the base class declares it
    AUTO_FOCUS = ""
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (120, "-wide"), (160, "-very-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-short"), (36, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "question_mark,f1", "help", "Help", id="view.help", tooltip="All keys and what they do; type to search"
        ),
        Binding("a", "show(5)", "Approvals", id="view.approvals", tooltip="Payments that wait for you"),
        Binding("slash", "filter", "Filter", id="view.filter", tooltip="Show only rows that contain what you type"),
        Binding("s", "sort", "Sort", id="view.sort", tooltip="Sort by the next column"),
        Binding("S", "sort_reverse", "Reverse", id="view.sort_reverse", tooltip="Reverse the order"),
        Binding("y", "copy", "Copy", id="view.copy", tooltip="Copy this row's id to the clipboard, and show it"),
        Binding("space", "freeze", "Pause", id="view.freeze", tooltip="Freeze the lists to read them; again to go on"),
        Binding("colon,ctrl+p", "palette", "Palette", id="view.palette", tooltip="Find any action by its name"),
        Binding("escape", "back", "Back", id="view.back", tooltip="Clear the filter, else back to the last pane"),
        Binding("tab", "step(1)", "Next pane", id="view.next", tooltip="The next pane"),
        Binding("shift+tab", "step(-1)", "Previous pane", id="view.previous", tooltip="The previous pane"),
        *(
            Binding(str(n + 1), f"show({n})", pane.TITLE, id=f"view.pane{n + 1}", tooltip=f"The pane {pane.TITLE}")
            for n, pane in enumerate(PANES)
        ),
        Binding("h", "guide", "Guide", id="view.guide", tooltip="Show or hide what to do next"),
        Binding("N", "name_me", "My name", id="view.name", tooltip="Change the name that other peers see"),
        Binding("B", "backup", "Back up", id="view.backup", tooltip="Write an encrypted backup of this node to a file"),
        Binding("q,ctrl+q,ctrl+c", "leave", "Quit", id="view.quit", tooltip="Quit; asks while jobs or payments run"),
    ]

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self.bridge = bridge
        self.panes: tuple[Pane[Any], ...] = tuple(pane(bridge) for pane in PANES)
        self._guide_shown = bool(bridge.status and bridge.status.demo)
        self._index = 0
        self._before = 0
        self._frozen = False
        self._detailed = ("", "")
        """Pane and key of the record in the detail column."""
        self._waiting = {key for key, view in bridge.approvals.items() if view.state == "waiting"}
        self._known = set(self._waiting)
        self._untold: set[str] = set()
        """Requests that came just now."""
        """Requests that were told already; one that is asked again is no news."""
        self._guild_news = GuildNews(bridge)
        self._bell = False
        self._said_lost = False
        self._unwatch: list[Callable[[], None]] = []

    @property
    def pane(self) -> Pane[Any]:
        return self.panes[self._index]

    def compose(self) -> ComposeResult:
        yield HeaderBar(self.bridge)
        yield TabBar([pane.TITLE for pane in PANES], self._asks)
        yield GuideBar(lambda: next_step(self.bridge, self.pane.TITLE))
        with Horizontal(id="body"):
            with Vertical(id="left"):
                with Vertical(id="panes"):
                    for index, pane in enumerate(self.panes):
                        pane.display = index == self._index
                        yield pane
                yield LinesView(tail=True, id="tail")
            yield LinesView(id="detail")
        yield Input(placeholder="filter: type, Enter keeps, Esc clears", compact=True, id="filter")
        yield NoteBar()
        yield HintBar(self._pane_hints, self._hints)

    def on_mount(self) -> None:
        self._header = self.query_one(HeaderBar)
        self._tabs = self.query_one(TabBar)
        self._guide = self.query_one(GuideBar)
        self._note = self.query_one(NoteBar)
        self._keys = self.query_one(HintBar)
        self._detail = self.query_one("#detail", LinesView)
        self._tail = self.query_one("#tail", LinesView)
        self._tail.border_title = "Log"
        self._input = self.query_one("#filter", Input)
        self._input.display = False
        self._guide.display = self._guide_shown
        watch = self.bridge.watch
        self._unwatch = [
            watch("status", self._status_changed),
            watch("approvals", self._approvals_changed),
            watch("guilds", self._guilds_changed),
            watch("log", self._show_tail),
        ]
        self.set_interval(1.0, self._tick)
        self.call_after_refresh(self._activate)

    def on_unmount(self) -> None:
        for stop in self._unwatch:
            stop()

    def on_lines_view_resized(self) -> None:
        self._show_record()
        self._show_tail()

    # --- what the bridge brings ---------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self.pane.tick()
        self._header.update()
        self._show_record()

    def _status_changed(self) -> None:
        self._header.update()
        if self.bridge.lost and not self._said_lost:
            self._said_lost = True
            text = (
                f"The node is gone: {plain(self.bridge.lost)}. Nothing can be done here until zstui is started again."
            )
            self.app.notify(text, severity="error", timeout=30, markup=False)

    def _approvals_changed(self) -> None:
        self._header.update()
        waiting = {key for key, view in self.bridge.approvals.items() if view.state == "waiting"}
        fresh, self._waiting = waiting - self._waiting - self._known, waiting
        self._known = (self._known | waiting) & self.bridge.approvals.keys()
        self._tabs.update()
        if self._guide.display:
            self._guide.update()
        if fresh and not self._untold:
            self.set_timer(TELL_S, self._tell_requests)
        self._untold |= fresh

    def _tell_requests(self) -> None:
        """Of new requests those that still wait: a grant pays most of them at once."""
        known = self.bridge.approvals
        fresh = [known[key] for key in self._untold if key in known and known[key].state == "waiting"]
        self._untold.clear()
        if not fresh or isinstance(self.app.screen, PayScreen):
            return
        if self._bell:
            self.app.bell()
        if len(fresh) == 1:
            (view,) = fresh
            text = f"{clip(plain(view.peer_name), 24)} asks {format_amount(view.amount_u)} for {clip(plain(view.module), 24)}."
        else:
            text = f"{len(fresh)} new payment requests."
        self.app.notify(f"{text} a shows what waits.", markup=False)

    def _guilds_changed(self) -> None:
        for text in self._guild_news.fresh():
            self.app.notify(text, markup=False)
        self._header.update()
        self._tabs.update()

    def _asks(self, index: int) -> bool:
        """Whether something waits for a person in that pane."""
        return bool((index == APPROVE and self._waiting) or (index == GUILDS and self._guild_news.waiting))

    def _show_tail(self) -> None:
        if self._tail.display and self._tail.region.height and not self._frozen:
            told = (line for line in reversed(self.bridge.log) if line.level != "debug")
            lines = list(islice(told, TAIL))[::-1]
            self._tail.show([log_line(line, self._tail.width) for line in lines])

    def _show_record(self) -> None:
        """The note, the tab flags and the detail column tell about the cursor's record."""
        pane, record = self.pane, self.pane.table.record
        note, style = ("", "") if record is None else pane.note(record)
        flags = []
        if pane.filter:
            count = f"{len(pane.table)} of {pane.total}"
            flags.append(f"/{clip(plain(pane.filter), 8)} {count}")
            note = f"Filter {plain(pane.filter)!r}: {count}. Esc clears. {note}"
        if self._frozen:
            flags.insert(0, "PAUSED")
        self._tabs.flags = tuple(flags)
        self._tabs.update()
        self._note.say(note, style or "muted")
        if self._guide.display:
            self._guide.update()
        if self._detail.region.width and not self._frozen:
            of = (pane.TITLE, "" if record is None else pane.key(record))
            fresh, self._detailed = of != self._detailed, of
            if fresh:
                self._detail.border_title = pane.RECORD
            self._detail.show([] if record is None else pane.details(record, self._detail.width), top=fresh)

    def on_pane_note(self, message: Pane.Note) -> None:
        message.stop()
        self._show_record()

    # --- panes --------------------------------------------------------------------------------------------------------

    def _activate(self) -> None:
        self.pane.activate()
        self._tabs.current = self._index
        self._tabs.update()
        self._keys.update()
        self.query_one("#panes").border_title = self.pane.TITLE
        self.set_class(self._index == LOG, "-log")
        self._show_record()
        self._show_tail()

    def action_show(self, index: int) -> None:
        """Bring up a pane."""
        self._close_filter()
        if index != self._index:
            self._before = self._index
            self.pane.display = False
            self._index = index
            self.pane.display = True
        self._activate()

    def action_step(self, by: int) -> None:
        self.action_show((self._index + by) % len(self.panes))

    def on_tab_bar_chosen(self, message: TabBar.Chosen) -> None:
        self.action_show(message.index)

    # --- the view -----------------------------------------------------------------------------------------------------

    def action_filter(self) -> None:
        self._input.display = True
        self._note.display = False
        self._input.value = self.pane.filter
        self._input.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input is self._input and self._input.display:
            self.pane.set_filter(event.value.strip())

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if event.input is self._input:
            self._close_filter()
            self.pane.table.focus()

    def _close_filter(self) -> None:
        if self._input.display:
            self._input.display = False
            self._note.display = True

    def action_back(self) -> None:
        if self._input.display or self.pane.filter:
            self._close_filter()
            self.pane.set_filter("")
            self.pane.table.focus()
        elif self._frozen:
            self.action_freeze()
        elif self._index != self._before:
            self.action_show(self._before)

    def action_sort(self) -> None:
        self.pane.sort_next()

    def action_sort_reverse(self) -> None:
        self.pane.sort_reverse()

    def action_freeze(self) -> None:
        self._frozen = not self._frozen
        for pane in self.panes:
            pane.frozen = self._frozen
        self.pane.set_frozen(self._frozen)
        if not self._frozen:
            self._show_tail()

    def action_copy(self) -> None:
        record = self.pane.table.record
        if record is None:
            self.app.notify("There is nothing to copy.", markup=False)
            return
        copy_and_show(self.app, self.pane.copied(record))

    def action_guide(self) -> None:
        self._guide.display = not self._guide.display
        if self._guide.display:
            self._guide.update()

    def action_bell(self) -> None:
        self._bell = not self._bell
        self.app.notify("Payment requests ring." if self._bell else "Payment requests are silent.", markup=False)

    # --- windows ------------------------------------------------------------------------------------------------------

    def actions(self) -> list[Action]:
        """Everything that can be done, the pane on screen first, with the keys as they are now."""
        keymap = self.app._keymap
        panes = sorted(self.panes, key=lambda pane: pane is not self.pane)
        out = [action for pane in panes for action in actions_of(pane.TITLE, pane.own_bindings(), keymap)]
        out += actions_of("Everywhere", declared(MainScreen), keymap)
        out.append(Action("view.theme", "Everywhere", "", "Theme", "Choose the colours", "app.change_theme"))
        out.append(
            Action("view.intro", "Everywhere", "", "Introduction", "Identity, backup, name and limits", "introduce")
        )
        return out + actions_of("List", declared(LineTable), keymap)

    def run(self, action: Action) -> None:
        """Do it as if its key had been pressed; a pane's action in its pane."""
        index = next((n for n, pane in enumerate(PANES) if action.group == pane.TITLE), None)
        node: Any = self
        if index is not None:
            self.action_show(index)
            node = self.panes[index]
        elif action.group == "List":
            node = self.pane.table
        self.app.run_worker(node.run_action(action.action), name=action.id, exit_on_error=True)

    def action_help(self) -> None:
        panes = [(pane.TITLE, pane.HELP) for pane in PANES]
        self.app.push_screen(HelpScreen(panes, self.actions(), self.pane.TITLE))

    def action_palette(self) -> None:
        self.app.action_command_palette()

    def action_introduce(self) -> None:
        self.app.push_screen(FirstRunScreen(self.bridge))

    def action_name_me(self) -> None:
        status = self.bridge.status
        self.pane.ask(
            TextInputScreen("My name", "The name that other peers see for this node", status.name if status else ""),
            lambda name: self.pane.execute(SetName(name=name), lambda view: f"Peers see you as {view.name}."),
        )

    def action_backup(self) -> None:
        self.pane.ask(BackupScreen(self.bridge), lambda path: self.pane.say(f"Written: {path}"))

    def action_leave(self) -> None:
        """Leave at once, or ask where that would interrupt something."""
        if self.bridge.lost or not in_flight(self.bridge):
            self.app.exit()
            return

        def answered(leave: bool | None) -> None:
            if leave:
                self.app.exit()

        self.app.push_screen(QuitScreen(self.bridge), answered)

    # --- hints --------------------------------------------------------------------------------------------------------

    def _pane_hints(self) -> list[Hint]:
        keymap = self.app._keymap
        return [(keys_of(b, keymap).split(" ")[0], b.description) for b in self.pane.own_bindings()]

    def _hints(self) -> list[Hint]:
        keymap = self.app._keymap
        known = {b.id: b for b in (*declared(MainScreen), *declared(LineTable))}
        hints: list[Hint] = []
        for id, label in SHOWN_EVERYWHERE:
            binding = known[id]
            keys = raw_keys(binding, keymap)
            if id == "view.palette":
                hints.append((name_of(keys[-1]), ""))
            elif id == "table.open":
                hints.append((name_of(keys[0]), self.pane.ENTER))
            else:
                hints.append((name_of(keys[0]), label))
        return hints
