"""What a request is about: one of the tasks, told by rules that can say why."""

import re
from typing import Final

from core.preferences import TASKS, Task
from core.value import Value

# Only the beginning and the end of a long paste are read: what is wanted stands in one of them.
READ_CHARS = 4000
# A task must lead by this much, else nothing speaks clearly for any.
LEAD = 1.0
# What an agent is for speaks for its task, but the words of the request may say more.
AGENT_WEIGHT = 2.0


class TaskGuess(Value):
    """Which task, and what spoke for it."""

    task: Task
    reasons: tuple[str, ...] = ()
    sure: bool = False
    """Whether it leads clearly; otherwise `general` is only the absence of anything else."""


class _Rule:
    """A sign of a task: how much it weighs, how it is called, and how it looks."""

    def __init__(self, task: Task, weight: float, name: str, pattern: str) -> None:
        self.task: Task = task
        self.weight = weight
        self.name = name
        self.pattern = re.compile(pattern, re.IGNORECASE)


_LANGUAGES = (
    r"python|javascript|typescript|rust|golang|kotlin|c\+\+|c#|haskell|bash|powershell|sql|regex|html"
    r"|css|dockerfile|yaml|json schema"
)
_RULES: Final = (
    _Rule("coding", 3, "a block of code", r"```|^\s*(?:def |class |import |#include|function )"),
    _Rule("coding", 3, "an error's trace", r"traceback \(most recent|\bat \w+\.java:\d|segfault"),
    _Rule("coding", 2, "a programming language", rf"(?<!\w)(?:{_LANGUAGES})(?!\w)"),
    _Rule("coding", 2, "a source file", r"\b[\w-]+\.(?:py|js|ts|rs|go|java|cpp|c|h|rb|sh|tsx?)\b"),
    _Rule(
        "coding",
        2,
        "words of programming",
        r"\b(?:refactor|debug|unit tests?|compil(?:e|er)|stack ?trace|pull request|api endpoint"
        r"|(?:write|fix|review|implement|programmier\w*|schreib\w*)\b.{0,40}\b(?:function|class"
        r"|script|code|program|query|funktion|skript))\b",
    ),
    _Rule(
        "creative",
        3,
        "a text to invent",
        r"\b(?:short )?(?:story|poem|haiku|song|lyrics|limerick|novel|screenplay|fairy ?tale|slogan"
        r"|gedicht|geschichte|roman|märchen)\b",
    ),
    _Rule(
        "creative",
        2,
        "words of inventing",
        r"\b(?:brainstorm|imagine|invent|names? for|tagline|in the style of|character|plot twist"
        r"|erfinde|stell dir vor)\b",
    ),
    _Rule(
        "analysis",
        2,
        "something to reckon",
        r"\b(?:calculat\w*|comput\w*|estimate|probability|percent(?:age)?|average|how (?:many|much)"
        r"|berechne\w*|wie viele?)\b|\d\s*[+*/%=]\s*\d",
    ),
    _Rule(
        "analysis",
        2,
        "words of taking apart",
        r"\b(?:analy[sz]e\w*|summari[sz]e|step by step|root cause|weak points|trade-?offs?|evaluate"
        r"|break down|prove|solve|fass\w* .{0,30}zusammen|schritt für schritt|beweise)\b",
    ),
    _Rule("analysis", 2, "a table of figures", r"(?:^[^\n]*\d[^\n]*[,;\t|][^\n]*\d[^\n]*\n){3,}"),
    _Rule(
        "research",
        2,
        "words of finding out",
        r"\b(?:research|sources?|evidence|stud(?:y|ies)|literature|what is known|state of the art"
        r"|history of|pros and cons|compare|comparison|versus|quellen|studien|vergleiche)\b",
    ),
    _Rule("research", 1, "a question for facts", r"^\s*(?:who|when|where|why|is it true)\b"),
)


def guess_task(text: str, *, agent_id: str | None = None) -> TaskGuess:
    """The task of a request, in well under a millisecond.

    `agent_id` counts where the agent bears a task's name.
    """
    read = text if len(text) <= 2 * READ_CHARS else f"{text[:READ_CHARS]}\n{text[-READ_CHARS:]}"
    weights: dict[Task, float] = dict.fromkeys(TASKS, 0.0)
    reasons: dict[Task, list[str]] = {task: [] for task in TASKS}
    for rule in _RULES:
        if rule.pattern.search(read):
            weights[rule.task] += rule.weight
            reasons[rule.task].append(rule.name)
    for task in TASKS:
        if task == agent_id and task != "general":
            weights[task] += AGENT_WEIGHT
            reasons[task].append(f"the agent {agent_id}")
    ranked = sorted(TASKS, key=lambda task: -weights[task])
    best, second = ranked[0], ranked[1]
    if weights[best] - weights[second] < LEAD or weights[best] < LEAD:
        return TaskGuess(task="general", reasons=("nothing speaks clearly for another task",))
    return TaskGuess(task=best, reasons=tuple(reasons[best]), sure=True)
