r"""Bayesian network: every column given its parents in a directed acyclic graph (Pearl, 1988).

.. math::
    p(x_1, \dots, x_D) = \prod_d p_d(x_d \mid x_{\mathrm{parents}(d)})

Discrete columns have a table of probabilities, one row for every configuration of their parents. Continuous columns are
linear in their continuous parents, one regression for every configuration of their discrete ones (Lauritzen and
Wermuth, 1989); other columns have the family of their kind, one set of parameters a configuration. ``nodes`` chooses other families for
single nodes: noisy-or and noisy-max (Pearl, 1988), decision trees over the parents (Boutilier et al., 1996), generalised
linear models given continuous parents. ``hidden_nodes`` names discrete nodes that are no columns. What is unknown in a row
is summed and integrated out exactly; the continuous parents of a generalised linear model have to be known.
"""

import pyro

from probgen.data.schema import Schema
from probgen.families import Nodes
from probgen.program import Model, Traits
from probgen.structure import Graph, settled_structure


class BayesianNetwork(Model):
    """Columns, and hidden nodes, that depend on their parents in a graph: ``{node: [parents]}``, edges, or a name.

    ``nodes={"column": kind}`` chooses other families; see :class:`~probgen.families.nodes.Nodes` for the kinds.
    """

    traits = Traits(
        methods=("em", "online_em", "map", "svi", "nuts", "gibbs"),
        network=True,
        summary="a directed acyclic graph of columns, given or learnt, with hidden nodes",
    )
    start = "random"

    def __init__(
        self,
        schema: Schema,
        structure=None,
        hidden_nodes: dict | None = None,
        nodes: dict | None = None,
        prior="default",
    ) -> None:
        super().__init__(schema)
        self.graph = Graph.of(structure or {}, [*schema.names, *(hidden_nodes or {})])
        self.nodes = Nodes(schema, self.graph, hidden_nodes or {}, nodes or {}, prior)

    @classmethod
    def settle_options(cls, source, options, seed):
        return {**options, "structure": settled_structure(source, options.get("structure"), options, seed)}

    @property
    def node_names(self):
        return self.graph.nodes

    def node(self, name):
        return self.nodes.columns[name]

    def outline(self):
        return [f"{node} | {', '.join(parents)}" if parents else node for node, parents in self.graph.parents.items()]

    def prepare(self, batches):
        self.nodes.prepare(batches)

    def model(self, batch):
        node = self.nodes.draw(batch)
        x: dict = {}
        with batch.rows():
            for name, parents in self.nodes.order.items():
                given = [x[parent] for parent in parents]
                x[name] = pyro.sample(
                    name, node[name](*given), obs=self.nodes.read(batch, name), infer=self.nodes.how(name)
                )
