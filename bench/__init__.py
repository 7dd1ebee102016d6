"""How fast Easel is, beside something known, measured in one run on one machine.

python -m bench --help      the benchmarks
docs/benchmarks.md          what they gave, and under which conditions
"""
