"""What is allowed: the rules of policy.yaml, the engine that answers and records, the watch that reloads.

Nothing is allowed unless a rule says so, and wherever the rules cannot be read nothing is. Knows no tool,
no task and no socket; whoever is about to touch the world asks `PolicyEngine.authorize`.
"""
