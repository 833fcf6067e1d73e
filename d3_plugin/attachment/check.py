"""What D³ has understood of a host, on one screen."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import pluggy

from d3_plugin.attachment.generator_loss import GeneratorLoss
from d3_plugin.evaluation.seen_class_check import SeenClassCheck, compare_seen_classes
from d3_plugin.hooks.user_functions import UserHooks, synthesizes, users_of
from d3_plugin.hosts.call_form import CallForm
from d3_plugin.hosts.host import Host

_WIDTH, _HEIGHT = 100, 25


@dataclass(frozen=True)
class Line:
    """One thing that D³ has found.

    Attributes:
        what: a word or two, such as ``generator's call``.
        finding: what D³ does or sees there.
        known_by: how it knows: ``24 calls of the loop``, ``data=``, ``guessed``.
        problem: a sentence if something looks wrong; empty if not.
    """

    what: str
    finding: str
    known_by: str = ""
    problem: str = ""


@dataclass(frozen=True, repr=False)
class Check:
    """What :meth:`d3_plugin.D3.check` returns: prints on one screen, also in a notebook.

    Attributes:
        host: its name, and the weight and steps so far.
        lines: the findings.
    """

    host: str
    lines: Sequence[Line]

    @property
    def problems(self) -> list[str]:
        """What looks wrong, as sentences; empty if nothing does."""
        return [line.problem for line in self.lines if line.problem]

    @property
    def verdict(self) -> str:
        number = len(self.problems)
        look = "looks" if number == 1 else "look"
        return f"{number} of these {look} wrong" if number else "nothing looks wrong"

    @property
    def first_lines(self) -> list[str]:
        """The first lines, for a log."""
        return repr(self).split("\n")[:6]

    def __repr__(self) -> str:
        """At most 25 lines of 100 columns; ``problems`` has the whole sentences."""
        wide = max((len(line.what) for line in self.lines), default=0)
        text = [f"D³ on {self.host}: {self.verdict}"]
        for line in self.lines:
            known = f"  [{line.known_by}]" if line.known_by else ""
            text.append(
                f"{'!' if line.problem else ' '} {line.what:<{wide}}  {line.finding}{known}"
            )
        for problem in self.problems:
            text += textwrap.wrap(problem, _WIDTH, initial_indent="! ", subsequent_indent="  ")
        if len(text) > _HEIGHT:
            text = [*text[: _HEIGHT - 1], "… all of it: .lines and .problems"]
        return "\n".join(map(_short, text))

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><td>{'⚠' if line.problem else '✓'}</td><td>{html.escape(line.what)}</td>"
            f"<td>{html.escape(line.finding)}"
            + (f"<br><b>{html.escape(line.problem)}</b>" if line.problem else "")
            + f"</td><td>{html.escape(line.known_by)}</td></tr>"
            for line in self.lines
        )
        return (
            f"<table><caption>D³ on {html.escape(self.host)}: {self.verdict}</caption>"
            "<tr><th></th><th>what</th><th>finding</th><th>known by</th></tr>"
            f"{cells}</table>"
        )


def findings(loss: GeneratorLoss, seed: int, *, prove: bool) -> Check:
    """See :meth:`d3_plugin.D3.check`."""
    host, hooks = loss.host, loss.hooks
    call, by = host.from_noise, synthesizes(hooks, host)
    if by == "plugin":
        lines = [Line("generator's call", f"as the plugin of {host.name} calls it")]
    else:
        lines = call_lines(call.form(), given=by == "user", guessed=not call.seen)
    lines += host_lines(host, hooks)
    lines.append(Line("labels", *loss.batches.finding))
    to_generator = loss.to_generator
    shares = to_generator.shares
    lines += generator_lines(
        weight=float(to_generator.weight),
        reached=bool(shares) or to_generator.reached,
        gradient_share=shares[-1].item() if shares else None,
        steps=loss.student.steps,
    )
    if (seconds := loss.clock.seconds) is not None:
        own, whole = (f"{1000 * each:.3g} ms" for each in seconds)
        lines.append(Line("time of a step", f"D³ {own} of {whole}", "the last steps"))
    if prove:
        lines += seen_class_lines(compare_seen_classes(host, hooks, seed))
    return Check(host.name, lines)


def _short(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1].rstrip()}…"


def call_lines(form: CallForm, *, given: bool, guessed: bool) -> list[Line]:
    """How the generator is called, and in which mode.

    Args:
        form: the loop's, or a guess.
        given: whether ``synthesize=`` was given: D³ then calls that function.
        guessed: whether no call of the loop has been seen yet.
    """
    what = "generator's call"
    if given:
        call = Line(what, f"synthesize=; the loop: {form}", form.known_by)
    else:
        call = Line(what, str(form), form.known_by, form.problem or form.note)
    if guessed:
        blind = "calls of generator.forward() or in a compiled step cannot be seen"
        return [call, Line("loop's calls", f"none seen yet; {blind}")]
    modes = {True: "train", False: "eval"}
    mode = "not seen" if form.training is None else f"in {modes[form.training]} mode"
    return [call, Line("loop's synthesis", mode, "calls on unseen classes")]


def generator_lines(
    *, weight: float, reached: bool | None, gradient_share: float | None, steps: int
) -> list[Line]:
    """Whether D³'s loss reaches the generator.

    Args:
        weight: the weight in use.
        reached: whether gradient came to the generator through the loss; None if not known yet.
        gradient_share: D³'s share of the generator's gradient; None if not known yet.
        steps: number of the student's steps.
    """
    what = "loss in generator"
    if weight == 0:
        return [Line(what, f"no: weight 0, the student alone learns; {steps} steps", "settings")]
    share = "" if gradient_share is None else f", {gradient_share:.2g} of its gradient"
    if reached is None:
        return [Line(what, f"weight {weight:g}, {steps} steps; not known yet", "")]
    problem = (
        ""
        if reached
        else (
            "no gradient of d3.loss() has reached the generator: add it to its loss before "
            "backward()"
        )
    )
    finding = f"{'yes' if reached else 'no'}: weight {weight:g}, {steps} steps{share}"
    return [Line(what, finding, "the backward passes", problem)]


def host_lines(host: Host, hooks: pluggy.HookRelay) -> list[Line]:
    """The data, the modules whose state is restored, and the classifier that is scored."""
    data = host.data
    norms, rows = data.attributes.norm(dim=1), data.train_features
    low, high = rows.min().item(), rows.max().item()
    shape = f"{data.num_classes} x {data.attributes.shape[1]}"
    lengths = f"lengths {norms.min().item():.3g} to {norms.max().item():.3g}"
    length = rows.norm(dim=1).mean().item()
    names = ", ".join(dict.fromkeys(type(module).__name__ for module in host.modules))
    users = users_of(hooks)
    own = users.named("train_classifier")
    if not own:
        others = [h.plugin for h in hooks.d3_train_classifier.get_hookimpls()]
        plugin = any(not isinstance(each, UserHooks) for each in others)
        own = f"classifier of {host.name}" if plugin else "default softmax; train_classifier= none"
    labels = f"gets class ids 0 to {data.num_classes - 1}, unseen ones too"
    if users.train_classifier is not None and users.labels_are == "mapped":
        labels = f"gets mapped labels, unseen classes as {len(data.seen_classes)} and on"
    return [
        Line("attributes", f"{shape}, {lengths}", "data="),
        Line("features", f"{low:.3g} to {high:.3g}, mean length {length:.3g}", "data="),
        Line("restored modules", names, "generator=, modules= and a trial of synthesis"),
        Line("final classifier", f"{own}; {labels}", "attach"),
    ]


def seen_class_lines(proof: SeenClassCheck) -> list[Line]:
    """What synthesising seen classes has shown; each warning with the line it belongs to."""
    first, *others = [*proof.warnings, ""]
    lines = [Line("synthetic rows", str(proof), "synthesis of seen classes", first)]
    return lines + [Line("", "", "", problem) for problem in others if problem]
