from tests.mutation.planting import Case, Mutant

CASES: dict[str, Case] = {}
MUTANTS: list[Mutant] = []
