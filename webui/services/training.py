"""Starting a training."""

from __future__ import annotations

from webui.core.errors import Refused
from webui.core.flags import Flags
from webui.core.training import TITLES, TrainingRequest
from webui.planning.training import TrainingPlan, TrainingPlanner
from webui.services.kinds import NEW_NETWORK, TRAINING
from webui.services.services import Services


def submit_training(services: Services, request: TrainingRequest, job_id: str | None = None) -> str:
    """Queue a training; returns the job's id. Its result is a `TrainingResult`.

    Raises: InvalidRequest, NotFound, Refused, BadModelFile for what can't be trained, TooManyJobs.
    """
    check_training_allowed(services.flags)
    plan = plan_training(services, request)
    return services.jobs.submit(TRAINING, plan, job_id=job_id, title=f"{TITLES[request.kind]} {request.name}")


def submit_new_network(services: Services, request: TrainingRequest, job_id: str | None = None) -> str:
    """Queue the making of an embedding or a hypernetwork that isn't trained yet; its result is a `TrainingResult`.

    Raises: InvalidRequest, Refused for one that is there, TooManyJobs.
    """
    check_training_allowed(services.flags)
    plan = training_planner(services).plan_untrained(request, services.settings.snapshot())
    return services.jobs.submit(NEW_NETWORK, plan, job_id=job_id, title=f"{TITLES[request.kind]} {request.name}")


def check_training_allowed(flags: Flags) -> None:
    """Raises: Refused where strangers could fill the disk: over a public link, or off this machine without a login."""
    if flags.share or not (flags.is_local or flags.credentials):
        raise Refused(
            "Trainings are started only on a server for this machine alone, or one with a login and no --share."
        )


def plan_training(services: Services, request: TrainingRequest) -> TrainingPlan:
    """What a training will be, without beginning it. Raises: as `submit_training`."""
    return training_planner(services).plan(request, services.settings.snapshot())


def training_planner(services: Services) -> TrainingPlanner:
    return TrainingPlanner(
        services.paths, services.checkpoints, services.networks, services.vaes, services.choices, services.machine
    )
