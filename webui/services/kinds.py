"""The program's own kinds of jobs; extensions register theirs."""

from __future__ import annotations

from webui.core.describing import DescribePlan, Description
from webui.core.merging import MergeRequest, MergeResult
from webui.core.request import GenerationResult
from webui.core.training import TrainingResult
from webui.jobs.kinds import JobKind
from webui.planning.batch import BatchPlan
from webui.planning.extras import ExtrasPlan
from webui.planning.plan import GenerationPlan
from webui.planning.script import ScriptPlan
from webui.planning.training import TrainingPlan

GENERATE = JobKind("generate", "webui.pipeline.generate:run", GenerationPlan, GenerationResult, "Generate")
SCRIPT = JobKind("script", "webui.pipeline.script:run", ScriptPlan, GenerationResult, "Script")
BATCH = JobKind("img2img-batch", "webui.pipeline.batch:run", BatchPlan, GenerationResult, "img2img batch")
EXTRAS = JobKind("extras", "webui.pipeline.extras:run", ExtrasPlan, GenerationResult, "extras")
DESCRIBE = JobKind("describe", "webui.pipeline.describing:run", DescribePlan, Description, "interrogate", kept=False)
MERGE = JobKind("merge", "webui.pipeline.merging.job:run", MergeRequest, MergeResult, "merge")
TRAINING = JobKind("training", "webui.training.job:run", TrainingPlan, TrainingResult, "Training", resumable=True)
NEW_NETWORK = JobKind("new-network", "webui.training.creating:run", TrainingPlan, TrainingResult, "Create")
LOAD = JobKind("load", "webui.pipeline.load:run", str, str, "load", kept=False)
UNLOAD = JobKind("unload", "webui.pipeline.load:unload", title="Unloading the checkpoint", kept=False)

OWN_KINDS = (GENERATE, SCRIPT, BATCH, EXTRAS, DESCRIBE, MERGE, TRAINING, NEW_NETWORK, LOAD, UNLOAD)
