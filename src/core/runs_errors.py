"""What can go wrong with runs, beyond what can go wrong with models and tools."""

from core.errors import BadParameter, Conflict, NotFound, ProviderError, ProviderRejected
from core.jobs import JobState


class RunNotFound(NotFound):
    """No run, or no call of it, has this id."""

    code = "run_not_found"


class ApprovalClosed(Conflict):
    """Nobody waits for this decision: there is no such call, or it is decided already."""

    code = "approval_closed"


class TooManyRuns(Conflict):
    """As many runs as may be are under way."""

    code = "too_many_runs"


class TaskEmpty(BadParameter):
    """There is nothing to do."""

    code = "task_empty"


class NoTools(BadParameter):
    """Neither tool servers nor an agent were named."""

    code = "no_tools"


class ModelChangedDuringExecution(ProviderError):
    """The model of a run was swapped, unloaded or taken away while the run was under way."""

    code = "model_changed_during_execution"


class ToolsRefused(ProviderRejected):
    """The server takes no tools with this model."""

    code = "tools_refused"


class LoopFailed(ProviderError):
    """The model could not go on, such as after several calls that cannot be read."""

    code = "run_failed"


class RunOver(Exception):
    """A run ends here by a rule of ours; what was done so far is its result."""

    def __init__(self, state: JobState, reason: str, message: str) -> None:
        super().__init__(message)
        self.state: JobState = state
        self.reason = reason
        self.message = message
