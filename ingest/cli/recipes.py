"""`ingest recipes`."""

from __future__ import annotations

import click

from ingest.cli.output import is_color, say, say_json


@click.group(invoke_without_command=True)
@click.pass_context
def recipes(ctx: click.Context) -> None:
    """List the recipes, or show one."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_recipes)


@recipes.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout.")
def list_recipes(as_json: bool = False) -> None:
    """List the recipes that are installed."""
    from ingest.recipes import load_recipe, offered_recipes
    from ingest.showing.report import Look, recipe_list

    found = [(offer, load_recipe(offer.name)) for offer in offered_recipes()]
    if as_json:
        rows = [
            {"name": offer.name, "description": recipe.description, "package": offer.package} for offer, recipe in found
        ]
        say_json(rows)
    else:
        say(recipe_list([(offer.name, recipe.description) for offer, recipe in found], Look(color=is_color())))


@recipes.command("show")
@click.argument("name", metavar="NAME|DIR")
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout.")
def show_recipe(name: str, as_json: bool) -> None:
    """Show a recipe: its fields, settings and instructions."""
    from ingest.recipes import load_recipe
    from ingest.showing.report import Look, recipe_table

    recipe = load_recipe(name)
    if as_json:
        say_json(recipe.model_dump(mode="json"))
    else:
        say(recipe_table(recipe, Look(color=is_color())))
