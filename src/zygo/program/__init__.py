"""A program on its way to the server: evaluated, its files sent, published, run. What commands and `app.run()` share."""
