"""What a campaign's jobs ask of a queue."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from al_charge.units import Memory, Time


class JobResources(BaseModel):
    """Jobs of one category; what is left out is taken from the launcher's folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    nodes: int | None = Field(default=None, ge=1, le=10_000, description="nodes of a job")
    cores: int | None = Field(default=None, ge=1, le=10_000, description="cores on each node")
    processes: int | None = Field(
        default=None, ge=1, le=256, description="workers in a job; they run on its first node"
    )
    gpus: int | None = Field(default=None, ge=0, le=64, description="GPUs on each node")
    memory: Memory | None = Field(default=None, gt=0, description="memory on each node")
    walltime: Time | None = Field(default=None, ge=60, description="time limit of a job")
    queue: str | None = Field(
        default=None, pattern=r"^[\w.@,+-]{1,64}$", description="queue or partition"
    )
    account: str | None = Field(
        default=None, pattern=r"^[\w.@+-]{1,64}$", description="account that is charged"
    )
    jobs: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="number of jobs kept in the queue, running ones included",
    )


class ResourcesSettings(BaseModel):
    """What jobs of each category request from the queue."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpu: JobResources = Field(default=JobResources(), description="propose, select, assess")
    dft: JobResources = Field(default=JobResources(), description="label")
    gpu: JobResources = Field(default=JobResources(), description="train")
