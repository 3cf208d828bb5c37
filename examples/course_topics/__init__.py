"""The topics of an introductory course in generative models, one short function each, in the order of the course."""

from dataclasses import dataclass
from types import ModuleType

from course_topics import (
    adversarial,
    autoregressive,
    diffusion,
    energies,
    flows,
    foundations,
    latent_variables,
    sequences,
    tasks,
)
from course_topics.register import REGISTERED, Topic

__all__ = ["FURTHER", "PARTS", "TOPICS", "Part"]


@dataclass(frozen=True)
class Part:
    """A chapter: the topics of one file, and its name in both languages."""

    module: ModuleType
    title: str
    titulo: str

    @property
    def topics(self) -> list[Topic]:
        return [topic for topic in REGISTERED if topic.function.__module__ == self.module.__name__]


PARTS = [
    Part(foundations, "Networks, mixtures, kernels, factors", "Redes, mezclas, núcleos y factores"),
    Part(sequences, "Series with hidden states", "Series con estados ocultos"),
    Part(latent_variables, "Autoencoders", "Autocodificadores"),
    Part(adversarial, "Adversarial networks", "Redes antagónicas"),
    Part(autoregressive, "Autoregressive models", "Modelos autorregresivos"),
    Part(energies, "Energies and scores", "Energías y puntuaciones"),
    Part(diffusion, "Diffusion", "Difusión"),
    Part(flows, "Normalizing flows", "Flujos normalizantes"),
    Part(tasks, "What densities are for", "Para qué sirve una densidad"),
]

TOPICS = {topic.name: topic for part in PARTS for topic in part.topics}
"""By name."""

FURTHER = (
    "student_mixture",
    "mixture_of_factor_analysers",
    "gaussian_copula",
    "chained_equations",
    "chow_liu_mixture",
    "hidden_chow_liu_tree",
    "semi_markov",
    "factorial_hidden_markov",
    "regression_hidden_markov",
    "switching_state_space",
    "deep_belief",
    "deep_markov",
    "recurrent_state_space",
)
"""Models of the registry that an introductory course leaves out."""
