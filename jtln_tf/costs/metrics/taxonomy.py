"""Class costs from a tree of classes: a table of parents, columns of the class table, or WordNet."""

import graphlib
import itertools
import pathlib
from collections.abc import Collection

import numpy as np

from jtln_tf.config import InputError, normalize_name
from jtln_tf.costs.numerics.wordnet import find_synset, read_hypernyms, read_wordnet
from jtln_tf.tables import is_table_name, read_rows

# The cost of two classes from the edges between them through a common ancestor, and the depth of that ancestor.
_DISTANCES = {"path": lambda edges, depth: edges, "wu_palmer": lambda edges, depth: edges / (2.0 * depth + edges)}


def taxonomy_cost(
    source_nodes: list[str], target_nodes: list[str], parents: dict, distance: str = "path"
) -> np.ndarray:
    """Computes the distance of each source class to each target class in a tree.

        path:       edges between a and b
        wu_palmer:  1 - 2 depth(c) / (depth(a) + depth(b)),   c the deepest common ancestor, depth(root) = 1

    A class is an ancestor of itself. Several roots become the children of one more.

    `parents` maps a node to its parent; a root has None or is no key. Returns float64 [n, m]: whole numbers of edges,
    or values in [0, 1). Raises `InputError` if a class is not in the tree, or a node is its own ancestor.

    Reference:
        Wu and Palmer, 1994, Verb semantics and lexical selection, ACL, arXiv:cmp-lg/9406033.
    """
    graph = {node: () if parent is None else (parent,) for node, parent in parents.items()}
    known = graph.keys() | itertools.chain.from_iterable(graph.values())
    for kind, nodes in (("source", source_nodes), ("target", target_nodes)):
        for node in nodes:
            if node not in known:
                raise InputError(
                    f"`cost_taxonomy` must hold every class. Received: {kind} class {node!r}, which is none of the "
                    f"tree's {len(known)} nodes."
                )
    return _relate(source_nodes, target_nodes, graph, distance)


def read_parents(path: str | pathlib.Path, classes: Collection[str] = ()) -> dict[str, str | None]:
    """Reads the parents of nodes for `taxonomy_cost` from a table of child,parent; a root has no parent.

    The first row is a header if it says child and parent, in either order, or if it has two names and none of them is
    one of `classes` or stands in another row.

    Raises:
        InputError: If it is no such table, or a node has two parents.
    """
    rows, order = list(read_rows(path, "`cost_taxonomy`")), slice(2)
    if rows:
        first, others = rows[0].cells[:2], {*classes}.union(*(row.cells[:2] for row in rows[1:]))
        titles = list(map(str.lower, first))
        if titles == ["parent", "child"]:
            order = slice(1, None, -1)
        if sorted(titles) == ["child", "parent"] or (len(first) == 2 and all(first) and others.isdisjoint(first)):
            rows = rows[1:]
    parents = {}
    for row in rows:
        child, parent = (cell or None for cell in (*row.cells, "", "")[:2][order])
        if child is None or len(row.cells) < 2 or parents.setdefault(child, parent) != parent:
            raise InputError(
                "`cost_taxonomy` must have rows of child,parent, and one parent of each node. "
                f"Received: {','.join(row.cells)!r} in line {row.line} of {str(path)!r}."
            )
    if not parents:
        raise InputError(f"`cost_taxonomy` must have rows of child,parent after a header. Received: {str(path)!r}.")
    return parents


def parents_from_columns(table: dict[str, dict[str, str]], columns: tuple[str, ...]) -> dict:
    """Builds the parents of nodes for `taxonomy_cost` from columns of a class table, the nearest ancestor first.

    The leaves are the classes, the other nodes `(column, value)`. Each column is a level of its own, so the class
    Avocado may be in the coarse class Avocado.

    Raises:
        InputError: If a column is unknown or empty for a class, or one value of it has two values of the next.
    """
    known = list(dict.fromkeys(column for row in table.values() for column in row))
    if not columns or not set(columns) <= set(known) or len(set(columns)) < len(columns):
        raise InputError(
            f"`cost_taxonomy` must name columns of the class table, each once: {', '.join(known)}. "
            f"Received: {', '.join(columns)}."
        )
    parents = {}
    for name, row in table.items():
        for column in columns:
            if not row.get(column):
                raise InputError(f"The class table must have a {column} for each class. Received: none for {name!r}.")
        line = [name, *((column, row[column]) for column in columns), None]
        for child, parent in itertools.pairwise(line):
            if parents.setdefault(child, parent) != parent:
                (column, value), (next_column, one), (_, other) = child, parents[child], parent
                raise InputError(
                    f"The class table must put each {column} in one {next_column}. Received: {value!r} in {one!r} and, "
                    f"for {name!r}, in {other!r}."
                )
    return parents


def wordnet_cost(
    source_nodes: list[str], target_nodes: list[str], folder: str | pathlib.Path, distance: str = "path"
) -> np.ndarray:
    """Computes the distance of each source class to each target class along the hypernyms of WordNet 3.0.

    This is `taxonomy_cost`, but a synset may have several hypernyms. Ways up are the shortest, the depth of an ancestor
    is that of its longest way to the root, and the common ancestor is the one through which the two are nearest.
    Names are ImageNet synsets (`n01440764`, also `n02085620-Chihuahua`), or nouns and verbs by lemma, part of speech
    and sense (`dog.n.01`).

    Raises:
        InputError: If the folder does not hold WordNet 3.0, or a class is not in it.

    Reference:
        Fellbaum, 1998, WordNet: An Electronic Lexical Database, MIT Press; wndb(5WN) for the files.
    """
    files = read_wordnet(pathlib.Path(folder))
    sources = [find_synset(files, node, "source") for node in source_nodes]
    targets = [find_synset(files, node, "target") for node in target_nodes]
    graph, synsets = {}, [*sources, *targets]
    for synset in synsets:
        if synset not in graph:
            graph[synset] = read_hypernyms(files, synset)
            synsets.extend(graph[synset])
    return _relate(sources, targets, graph, distance)


def compute_taxonomy(evidence) -> tuple[np.ndarray, dict]:
    """Measures distances in the tree that `cost_taxonomy` names."""
    tree, distance = evidence.cost.taxonomy, evidence.cost.taxonomy_distance
    nodes = {side: list(domain.class_names) for side, domain in evidence.domains.items()}
    kind, colon, rest = tree.partition(":")
    parameters = {"taxonomy": tree, "distance": distance}
    if colon and kind == "wordnet":
        tables = evidence.class_table
        synsets = [[tables[side].get(name, {}).get("synset") or name for name in nodes[side]] for side in nodes]
        return wordnet_cost(*synsets, rest, distance), parameters
    if colon and kind == "columns":
        columns = tuple(filter(None, (normalize_name(column.strip()) for column in rest.split(","))))
        parents = parents_from_columns(_find_rows(evidence.class_table, nodes), columns)
    elif is_table_name(tree):
        parents = read_parents(tree, {*nodes["source"], *nodes["target"]})
    else:
        raise InputError(
            f"`cost_taxonomy` must be columns:NEAR,FAR, wordnet:FOLDER or a .csv of child,parent. Received: {tree!r}."
        )
    return taxonomy_cost(*nodes.values(), parents, distance), parameters


def _find_rows(tables, nodes):
    rows = {}
    for side, names in nodes.items():
        missing = [name for name in names if name not in tables[side]]
        if missing:
            raise InputError(
                f"`cost_class_table` must have a row for each {side} class, as cost_taxonomy needs. Received: "
                f"{len(tables[side])} rows, without {missing[0]!r}."
            )
        rows |= {name: tables[side][name] for name in names}
    return rows


def _relate(source_nodes, target_nodes, graph, distance):
    try:
        # Parents come before their children.
        order = list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        raise InputError(
            f"`cost_taxonomy` must be a tree. Received: {error.args[1][0]!r} among its own ancestors."
        ) from error
    roots = [node for node in order if not graph.get(node)]
    if len(roots) > 1:
        # No node is None, so it can stand for the root of the roots.
        graph, order = {**graph, **dict.fromkeys(roots, (None,))}, [None, *order]
    depths = {}
    for node in order:
        depths[node] = 1 + max((depths[parent] for parent in graph.get(node, ())), default=0)
    edges = {node: _count_edges_up(graph, node) for node in (*source_nodes, *target_nodes)}
    values, measure = np.empty((len(source_nodes), len(target_nodes))), _DISTANCES[distance]
    for row, column in np.ndindex(values.shape):
        one, other = edges[source_nodes[row]], edges[target_nodes[column]]
        values[row, column] = min(measure(one[node] + other[node], depths[node]) for node in one.keys() & other)
    return values


def _count_edges_up(graph, node):
    edges, found = {node: 0}, [node]
    for child in found:
        for parent in graph.get(child, ()):
            if parent not in edges:
                edges[parent] = edges[child] + 1
                found.append(parent)
    return edges
