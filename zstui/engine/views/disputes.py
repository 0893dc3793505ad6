"""Disputed channels: who must act, by when, what each choice costs, and what the witnesses said."""

from __future__ import annotations

from typing import Literal

from zstui.engine.views.base import View

DisputeState = Literal[
    "none",
    "filed",
    "deciding",
    "decided",
    "settled",
    "unresolved",
    "own record",
    "upheld",
    "rejected",
    "unjudgeable",
    "refunded",
    "unpaid",
]
"""none: not disputed; the choices say what a dispute would mean. filed: evidence is taken, or the witnesses run the job again.
deciding: the time for evidence is over. own record: no witnesses, each side books its own. The last five are of an output.
upheld: it is wrong, and a refund is due. unpaid: the refund was not made in time."""


class ChoiceView(View, frozen=True, kw_only=True):
    """One thing that this person can do now, and what it means in money."""

    key: Literal["wait", "agree", "evidence", "file", "unilateral", "refund", "refuse"]
    title: str
    text: str
    """One or two sentences: what happens, and what cannot be taken back."""
    mine_u: int
    """What I get out of the channel by this choice, as far as is known now."""
    cost_u: int
    """How much less that is than my own record says; negative: more."""


class WitnessView(View, frozen=True, kw_only=True):
    peer_id: str
    name: str = ""
    state: Literal["silent", "heard", "ready", "signed"]
    """silent: has not taken the case yet. heard: has. ready: would sign. signed: has signed a verdict."""
    heard_at: int | None = None
    agrees: bool | None = None
    """Whether its verdict is the one that counts; None before there is one."""


class VerdictView(View, frozen=True, kw_only=True):
    """What the witnesses decided, or would decide on the evidence on record now."""

    kind: Literal["balance", "output"] = "balance"
    """What was judged: the balances of a channel, or the output of a job."""
    channel_id: str
    """For an output the case's id."""
    final: bool
    """Enough witnesses signed it. False: only what this node expects."""
    signatures: int
    needed: int
    lo_peer_id: str
    hi_peer_id: str
    lo_u: int
    """What the side with the lower key gets; for an output, gets back."""
    hi_u: int
    mine_u: int | None = None
    """My part; None at a witness."""
    theirs_u: int | None = None
    faults: tuple[str, ...] = ()
    """One sentence a fault."""
    signed_by_me: bool = False
    text: str = ""
    """All of it in one sentence."""
    finding: Literal["", "upheld", "rejected", "unjudgeable"] = ""
    """Of an output: upheld means that it is wrong."""
    file: dict[str, object] = {}  # noqa: RUF012  the portable verdict on an output, empty unless asked for


class FraudView(View, frozen=True, kw_only=True):
    """A fault on record against a peer."""

    culprit: str
    culprit_name: str = ""
    kind: Literal["FORK", "STALE_CLAIM", "DOUBLE_VERDICT", "FALSE_ACK", "NO_REFUND"]
    channel_id: str
    words: str
    proven: bool
    """Two signed documents prove it to anyone; False: a verdict found it."""
    at: int
    until: int
    """The end of the penalty."""
    file: dict[str, object] = {}  # noqa: RUF012  the portable proof, empty unless asked for


class DisputeView(View, frozen=True, kw_only=True):
    kind: Literal["balance", "output"] = "balance"
    """What is disputed: the balances of a channel, or the output of a job that was paid on it."""
    channel_id: str
    case_id: str
    """The channel's: its balances have one case at most; "" without witnesses. An output's case has an id of its own."""
    job_id: str = ""
    """Whose output is disputed."""
    module: str = ""
    refund_u: int = 0
    """What is to be returned if the output is wrong."""
    request_id: str = ""
    """At its executor: the payment request for the refund that its owner has to approve."""
    role: Literal["party", "witness"]
    peer_id: str
    """The other side; for a witness the one against whom it was filed."""
    peer_name: str = ""
    filed_by: str
    filed_by_name: str = ""
    filed_by_me: bool = False
    state: DisputeState
    reason: str = ""
    """Why the channel is disputed, in words."""
    filed_at: int
    deadline_at: int | None = None
    """When evidence closes; None until enough witnesses have taken the case."""
    must_act: str = ""
    """Who must act now, in one clause; "" if nobody."""
    act_by: int | None = None
    text: str = ""
    """Where it stands and who must act by when, in one or two sentences."""
    mine_u: int | None = None
    """What I get by my own record; None at a witness."""
    theirs_u: int | None = None
    choices: tuple[ChoiceView, ...] = ()
    witnesses: tuple[WitnessView, ...] = ()
    needed: int = 0
    """How many equal verdicts decide."""
    evidence_mine: int = 0
    """Submissions on record of mine, or at a witness of the filer ..."""
    evidence_theirs: int = 0
    """... and of the other side."""
    verdict: VerdictView | None = None
    frauds: tuple[FraudView, ...] = ()

    @property
    def key(self) -> str:
        """By which one dispute is told from another."""
        return self.case_id or self.channel_id
