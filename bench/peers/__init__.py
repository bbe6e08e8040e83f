"""Systems that a user could join predictions to actuals with instead. None of them is needed to use the product."""
