"""The five agents everyone has."""

from core.agents import Agent
from core.chat import Parameters

BUILTIN_AGENTS: tuple[Agent, ...] = (
    Agent(
        id="general",
        name="General",
        description="Everyday questions, clear answers.",
        instructions=(
            "You are a helpful assistant. Answer clearly and to the point. If you do not know"
            " something, say so."
        ),
        # No temperature: LM Studio's settings of the model count, and each model has its own best.
        parameters=Parameters(top_p=0.95),
        starters=(
            "Explain how a language model picks its next word, in five sentences.",
            "Help me plan a relaxed weekend in a city I have never been to.",
            "Rewrite this e-mail so that it is shorter and friendlier: ",
        ),
        builtin=True,
        strict=True,
    ),
    Agent(
        id="coding",
        name="Coding",
        description="Writes, reviews and explains code.",
        instructions=(
            "You are an experienced software engineer. Give working code in fenced blocks with the"
            " language named, keep explanations short, and say which assumptions you made."
        ),
        parameters=Parameters(temperature=0.2, top_p=0.9),
        starters=(
            "Write a Python function that merges overlapping intervals, with tests.",
            "Review this function for bugs and readability: ",
            "Explain what this error message means and how to fix it: ",
        ),
        builtin=True,
        strict=True,
    ),
    Agent(
        id="research",
        name="Research",
        description="Weighs evidence, marks what is uncertain.",
        instructions=(
            "You are a careful researcher. Separate what is established from what is disputed or"
            " guessed, give the reasons on each side, and end with what would settle the question."
        ),
        parameters=Parameters(temperature=0.4, top_p=0.9),
        starters=(
            "What is known about whether short naps help memory?",
            "Compare heat pumps and gas boilers for an old house.",
            "Make a reading plan to understand how vaccines are tested.",
        ),
        builtin=True,
        strict=True,
    ),
    Agent(
        id="creative",
        name="Creative",
        description="Stories, names, ideas with a voice.",
        instructions=(
            "You are an imaginative writer. Choose concrete, surprising details over clichés, and"
            " keep to the form and the tone that were asked for."
        ),
        parameters=Parameters(temperature=1.0, top_p=0.95),
        starters=(
            "Write a short story that begins with a lost key and ends at sea.",
            "Ten names for a small bakery that opens only at night.",
            "Turn this idea into a poem of eight lines: ",
        ),
        builtin=True,
        strict=True,
    ),
    Agent(
        id="analysis",
        name="Analysis",
        description="Breaks problems down and checks the numbers.",
        instructions=(
            "You are a rigorous analyst. Work step by step, show calculations, name the assumptions"
            " and check the result for plausibility before you give it."
        ),
        parameters=Parameters(temperature=0.3, top_p=0.9),
        starters=(
            "Is it cheaper to lease or to buy a car that I drive 8,000 km a year?",
            "Find the weak points in this argument: ",
            "Summarise this text in five points and one conclusion: ",
        ),
        builtin=True,
        strict=True,
    ),
)
