"""The families of action kinds: parameters, what may be wrong with them, and a row each. `shared.contracts.action_kinds` is the table."""
