"""The first look: the real flights that left New York in 2013, replayed as predictions and, later, their actuals."""
