"""Statistics: what data show of a model, collected block by block (`collect.collect`)."""
