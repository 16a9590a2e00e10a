"""An app of several modules. Every module of the package goes into the containers, and `zygo serve` follows them all.

$ zygo serve -m bookshop.api
$ curl "$URL?author=Borges"
{"books":["Ficciones","El Aleph"]}
"""
