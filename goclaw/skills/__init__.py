"""Skills: folders that teach a model something (SKILL.md) or do something for it (a WASM module beside it).

A skill from a stranger must be safe to try: its module runs in the sandbox with what SKILL.md asks for,
capped; a folder that is not in order is refused with its reason and never harms the others; a module that
keeps failing is set aside until a person enables it again. This package imports the sandbox and the core, and
reads only the skill folders.
"""
