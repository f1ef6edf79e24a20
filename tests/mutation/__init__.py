"""Does the kit of property tests find real bugs? Bugs planted into copies of operations of this toolkit, and the catch.

python -m tests.mutation
"""
