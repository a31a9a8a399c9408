"""How each route is answered: routes, and their parts. Each file is imported by its own name."""
