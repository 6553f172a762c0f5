import collections
import re

import networkx
import numpy as np
import pytest

from jtln_tf.config import InputError
from jtln_tf.costs.metrics.taxonomy import parents_from_columns, read_parents, taxonomy_cost, wordnet_cost

PARENTS = {"dog": "carnivore", "cat": "carnivore", "carnivore": "animal", "trout": "animal", "animal": None}
TABLE = {
    "Vine-Tomato": {"class": "Vine-Tomato", "coarse_class": "Tomato", "family": "Vegetables"},
    "Beef-Tomato": {"class": "Beef-Tomato", "coarse_class": "Tomato", "family": "Vegetables"},
    "Leek": {"class": "Leek", "coarse_class": "Leek", "family": "Vegetables"},
    "Avocado": {"class": "Avocado", "coarse_class": "Avocado", "family": "Avocado"},
}
# Synset: words, hypernyms.
SYNSETS = {
    "entity": (["entity"], []),
    "animal": (["animal", "beast"], ["entity"]),
    "domestic": (["domestic_animal"], ["animal"]),
    "carnivore": (["carnivore"], ["animal"]),
    "canine": (["canine"], ["carnivore"]),
    "dog": (["dog", "hound"], ["canine", "domestic"]),
    "puppy": (["puppy"], ["dog"]),
    "cat": (["cat"], ["carnivore"]),
    "lion": (["lion"], ["cat"]),
    "rex": (["Rex"], ["dog"]),
    "hound2": (["hound"], ["entity"]),
    "stone": (["stone"], ["entity"]),
}


def measure_tree(parents, one, other):
    """Returns edges and Wu-Palmer distance by path lengths: depth(lca) = (depth(a) + depth(b) - path(a, b)) / 2."""
    tree = networkx.Graph([pair for pair in parents.items() if pair[1] is not None])
    tree.add_nodes_from(parents)
    roots = [node for node in tree if parents.get(node) is None]
    root = roots[0] if len(roots) == 1 else "the one root"
    tree.add_edges_from((child, root) for child in roots if child != root)
    edges = networkx.shortest_path_length(tree, one, other)
    depths = sum(networkx.shortest_path_length(tree, node, root) + 1 for node in (one, other))
    return edges, 1 - (depths - edges) / depths


def write_wordnet(folder, version="3.0"):
    """Writes a WordNet dict folder (wndb(5WN)) of nouns and returns the offset of each synset."""
    header = f"  1 This is WordNet {version} Copyright 2006 by nobody.  \n"
    offsets, senses = dict.fromkeys(SYNSETS, 0), collections.defaultdict(list)
    # Offsets have a fixed width: lines written with zeros have the right lengths.
    for _ in range(2):
        data = header
        for key, (words, hypernyms) in SYNSETS.items():
            offsets[key] = len(data)
            # An instance is marked with @i. A hyponym and an antonym of one word are no hypernyms.
            pointers = [f"{'@i' if key == 'rex' else '@'} {offsets[up]:08} n 0000" for up in hypernyms]
            pointers += [f"~ {offsets['entity']:08} n 0000", f"! {offsets['entity']:08} n 0101"]
            fields = [f"{offsets[key]:08}", "03 n", f"{len(words):02x}", *(f"{word} 0" for word in words)]
            gloss = f"| a gloss; @ {offsets['entity']:08} n 0000 is none  \n"
            data += " ".join([*fields, f"{len(pointers):03}", *pointers, gloss])
    for key, (words, _) in SYNSETS.items():
        for word in words:
            senses[word.lower()].append(f"{offsets[key]:08}")
    index = [f"{word} n {len(o)} 2 @ ~ {len(o)} 0 {' '.join(o)}  \n" for word, o in sorted(senses.items())]
    folder.mkdir()
    files = {"data.noun": data, "index.noun": header + "".join(index), "data.verb": header, "index.verb": header}
    for name, text in files.items():
        (folder / name).write_text(text)
    return offsets


@pytest.fixture(scope="module")
def wordnet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wordnet") / "dict"
    return folder, write_wordnet(folder)


@pytest.mark.parametrize(("num_nodes", "num_roots"), [(1, 1), (2, 2), (40, 1), (60, 4)])
def test_distances_agree_with_breadth_first_search(num_nodes, num_roots):
    rng = np.random.default_rng(num_nodes)
    parents = {f"n{i}": f"n{rng.integers(0, i)}" for i in range(num_roots, num_nodes)}
    # Half of the roots are keys, half only parents.
    parents |= {f"n{i}": None for i in range(0, num_roots, 2)}
    nodes = sorted({*parents, *parents.values()} - {None})
    source, target = nodes[::2], nodes[::3]
    expected = np.array([[measure_tree(parents, row, column) for column in target] for row in source])
    np.testing.assert_array_equal(taxonomy_cost(source, target, parents), expected[..., 0])
    np.testing.assert_allclose(taxonomy_cost(source, target, parents, "wu_palmer"), expected[..., 1], atol=1e-14)


@pytest.mark.parametrize(
    ("source", "changes", "message"),
    [
        ("cow", {}, r"must hold every class. Received: source class 'cow', .* none of the tree's 5 nodes\.$"),
        ("dog", {"x": "a", "a": "b", "b": "a"}, "must be a tree. Received: '[ab]' among its own ancestors"),
    ],
)
def test_trees_that_do_not_fit(source, changes, message):
    with pytest.raises(InputError, match=message):
        taxonomy_cost([source], ["cat"], {**PARENTS, **changes})


def test_read_parents(tmp_path):
    path = tmp_path / "tree.csv"
    path.write_text('\ufeffchild,parent,note\r\ndog, canine,x\r\n"lynx, gray",cat\r\n\r\n,,\r\ncat,\r\n猫 ,cat\r\n')
    assert read_parents(path) == {"dog": "canine", "lynx, gray": "cat", "cat": None, "猫": "cat"}
    for text in ("dog;canine;\ncanine;\n", "parent;child\ncanine;dog\n;canine\n", "kind;above\ndog;canine\ncanine;\n"):
        path.write_text(text)
        assert read_parents(path, ["dog"]) == {"dog": "canine", "canine": None}, text
    path.write_text("dog,canine\ncat,feline\n")
    assert read_parents(path, ["dog"]) == {"dog": "canine", "cat": "feline"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"child,parent\na,b\nc\n", "rows of child,parent, .* Received: 'c' in line 3 of '.*tree.csv'"),
        (b"child,parent\na,b\nb,c\na,c\n", "one parent of each node. Received: 'a,c' in line 4 of "),
        (b"child,parent\n", "must have rows of child,parent after a header. Received: '.*tree.csv'"),
        (b"child,parent\n\xff\xfe,a\n", "must be a UTF-8 table. Received: '.*tree.csv'"),
    ],
)
def test_table_that_is_no_tree(tmp_path, content, message):
    path = tmp_path / "tree.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_parents(str(path))


def test_tree_of_columns():
    parents = parents_from_columns(TABLE, ("coarse_class", "family"))
    cost = taxonomy_cost(["Vine-Tomato", "Avocado"], ["Beef-Tomato", "Leek", "Avocado"], parents)
    # Families are roots, joined by one more.
    np.testing.assert_array_equal(cost, [[2, 4, 6], [6, 6, 0]])


@pytest.mark.parametrize(
    ("table", "columns", "message"),
    [
        (TABLE, ("family", "colour"), "each once: class, coarse_class, family. Received: family, colour."),
        (TABLE, ("family", "coarse_class"), "in one coarse_class. Received: 'Vegetables' in 'Tomato' and, for 'Leek'"),
        ({"Mint": {"family": ""}}, ("family",), "must have a family for each class. Received: none for 'Mint'"),
    ],
)
def test_columns_that_do_not_fit(table, columns, message):
    with pytest.raises(InputError, match=message):
        parents_from_columns(table, columns)


def test_wordnet_paths_agree_with_breadth_first_search(wordnet):
    folder, offsets = wordnet
    names = [f"n{offset:08}" for offset in offsets.values()]
    graph = networkx.DiGraph([(key, up) for key, (_, hypernyms) in SYNSETS.items() for up in hypernyms])
    lengths = [networkx.single_source_shortest_path_length(graph, key) for key in offsets]
    expected = [[min(mine[up] + theirs[up] for up in mine.keys() & theirs) for theirs in lengths] for mine in lengths]
    np.testing.assert_array_equal(wordnet_cost(names, names, folder), expected)


def test_wordnet_names(wordnet):
    folder, offsets = wordnet
    names = ["dog.n.01", "hound.n.1", "Rex.n.01", "hound.n.02", f"n{offsets['lion']:08}", "beast.n.01"]
    names.append(f"n{offsets['puppy']:08}-Puppy Dog")
    np.testing.assert_array_equal(wordnet_cost(names, ["dog.n.01"], str(folder))[:, 0], [0, 0, 1, 4, 4, 2, 1])


def test_wordnet_wu_palmer(wordnet):
    targets = ["lion.n.01", "canine.n.01", "stone.n.01", "dog.n.01"]
    cost = wordnet_cost(["puppy.n.01"], targets, wordnet[0], "wu_palmer")
    # Depths are of the longest way: entity 1, animal 2, carnivore 3, canine 4, dog 5. Edges are of the shortest: puppy
    # is 3 below carnivore and, past domestic_animal, 4 below entity. It is 3 below animal, but carnivore is nearer.
    expected = [[1 - 6 / (6 + 5), 1 - 8 / (6 + 4), 1 - 2 / (5 + 2), 1 - 10 / (6 + 5)]]
    np.testing.assert_allclose(cost, expected, atol=1e-12)


@pytest.mark.parametrize("name", ["", "dog.n.02", "dog.n.00", "dog.v.01", "n99999999", "数字.n.01", "dog.n.01\n"])
def test_class_that_is_not_in_wordnet(wordnet, name):
    message = f"as a noun or verb named as in n01440764 or dog.n.01. Received: target class {name!r}."
    with pytest.raises(InputError, match=re.escape(message)):
        wordnet_cost(["dog.n.01"], ["cat.n.01", name], wordnet[0])
    # Inside of a line.
    name = f"n{wordnet[1]['dog'] + 1:08}"
    with pytest.raises(InputError, match=f"Received: source class '{name}'"):
        wordnet_cost([name], ["cat.n.01"], wordnet[0])


def test_folder_that_is_no_wordnet(tmp_path):
    with pytest.raises(InputError, match=r"the folder of WordNet 3\.0\. Received: '.*' \(without data.noun\)\.$"):
        wordnet_cost(["dog.n.01"], ["cat.n.01"], tmp_path)
    # ImageNet's names are offsets in the files of 3.0.
    write_wordnet(tmp_path / "dict", version="3.1")
    with pytest.raises(InputError, match=r"the folder of WordNet 3\.0\. Received: '.*' \(another version\)\.$"):
        wordnet_cost(["dog.n.01"], ["cat.n.01"], tmp_path / "dict")
