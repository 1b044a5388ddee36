"""Right programs made wrong."""

from __future__ import annotations

import ast
import copy
import random
import subprocess
import sys

SEED = 0


class Mutation(ast.NodeTransformer):
    """Changes the one place whose number is `at`: a comparison, an operator, a constant or a condition."""

    def __init__(self, at: int) -> None:
        self.at = at

    def generic_visit(self, node: ast.AST) -> ast.AST:
        node = super().generic_visit(node)
        changed = copy.deepcopy(node)
        if isinstance(changed, ast.Compare):
            changed.ops[0] = ast.NotEq() if isinstance(changed.ops[0], ast.Eq) else ast.Eq()
        elif isinstance(changed, ast.BinOp):
            changed.op = ast.Sub() if isinstance(changed.op, ast.Add) else ast.Add()
        elif isinstance(changed, ast.Constant) and isinstance(changed.value, int):
            changed.value = changed.value + 1
        elif isinstance(changed, ast.Return) and changed.value is not None:
            changed.value = ast.Tuple([changed.value, ast.Constant(0)], ast.Load())
        else:
            return node
        self.at -= 1
        return changed if self.at == -1 else node


def mutant(whole: str, entry_point: str, tests: str) -> str | None:
    """The program `whole` with one seeded mutation of `entry_point` that plain execution of `tests` behind it, without
    any sandbox, confirms as failing; None where no mutation fails."""
    for at in random.Random(SEED).sample(range(12), 12):
        tree = ast.parse(whole)
        place = next(i for i, node in enumerate(tree.body) if getattr(node, "name", "") == entry_point)
        tree.body[place] = Mutation(at).visit(tree.body[place])
        program = ast.unparse(ast.fix_missing_locations(tree))
        if program != ast.unparse(ast.parse(whole)):
            source = f"{program}\n{tests}"
            try:
                plain = subprocess.run([sys.executable, "-S", "-c", source], capture_output=True, timeout=3)
            except subprocess.TimeoutExpired:
                return program
            if plain.returncode:
                return program
    return None
