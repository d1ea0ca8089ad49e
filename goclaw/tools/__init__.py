"""The gate, and the tools goclaw brings along.

Every call of a tool, by whomever, passes `gate.Gate`: known, well-formed, allowed, bounded, recorded. A
tool only says what a call would touch and touches exactly what the gate then granted.
`builtin.builtin_tools` lists them.
"""
