"""Generic text for the forgetting check: written for Loracle, of many kinds, about nothing that a fine-tune would teach."""

TEXTS: tuple[str, ...] = (
    "The tide comes in twice a day because the moon pulls at the ocean a little more on the near side of the Earth than on"
    " the far side. As the planet turns, every coast passes through both bulges of water. Where a bay narrows toward its end,"
    " the water has nowhere to go but up, and the difference between high and low can be taller than a house.",
    "To make a simple bread you need flour, water, salt and yeast. Mix them until no dry flour is left, cover the bowl, and"
    " wait for an hour. Fold the dough over itself a few times, shape it into a ball, and let it rise again. Bake it in a hot"
    " oven until the crust is brown and the bottom sounds hollow when you knock on it.",
    '"Are you coming with us or not?" she asked from the doorway, one arm already in her coat. He looked at the rain, then at'
    ' the book on his knees, then at her. "Give me five minutes," he said, which both of them knew meant twenty.',
    "A bicycle stays upright mostly because it steers itself into a fall. When it leans to the left, the front wheel turns to"
    " the left, and the wheels come back under the rider. This works only while it moves, which is why a bicycle at a traffic"
    " light needs a foot on the ground.",
    'def mean(values):\n    """Arithmetic mean of a non-empty list of numbers."""\n    if not values:\n        raise'
    ' ValueError("mean of an empty list")\n    return sum(values) / len(values)\n',
    "In the old part of the city the streets are so narrow that neighbours on the third floor can shake hands across them. In"
    " summer this keeps the stones cool; in winter the sun reaches the ground only at noon. The market is held on Saturdays,"
    " and by two in the afternoon nothing is left but crates and pigeons.",
    "The heart of a resting adult beats about seventy times a minute and moves around five litres of blood. During hard"
    " exercise it can move four times as much, partly by beating faster and partly by filling more completely between two"
    " beats.",
    "Dear Mr. Alvarez,\n\nthank you for your letter of 3 March. The repair of the roof has been planned for the second week"
    " of April, provided that the weather stays dry. The workers will need access to the attic. Please let us know which"
    " mornings would suit you.\n\nKind regards,\nthe housing office",
    "Glass is made by melting sand together with soda and lime. The soda lowers the temperature at which the sand melts, and"
    " the lime keeps the result from dissolving in water. A trace of iron, which most sand contains, gives cheap glass its"
    " green edge.",
    "First the fox tried to reach the grapes by jumping. Then it tried to climb the trellis, and a slat broke under its paws."
    " At last it sat down in the dust, looked up for a while, and told a passing crow that it had never much cared for"
    " grapes.",
    "Interest that is paid on interest grows slowly at first and then surprisingly fast. At three percent a year a sum"
    " doubles in about twenty-four years; at six percent it takes twelve. The same arithmetic works against anybody who owes"
    " money.",
    "SELECT city, COUNT(*) AS orders, SUM(total) AS turnover\nFROM orders\nWHERE placed >= '2024-01-01'\nGROUP BY"
    " city\nHAVING COUNT(*) > 10\nORDER BY turnover DESC;",
    "Penguins that live far in the south breed in winter. The male keeps the single egg on his feet, under a fold of warm"
    " skin, for two months, while the female is away at sea. When she returns, the chick has usually hatched, and he walks to"
    " the coast to eat for the first time in a hundred days.",
    "The meeting began ten minutes late. Two items were moved to next week because the figures were not ready. It was agreed"
    " that the old printer would be given away, that the window on the landing would be repaired, and that somebody should"
    " find out who had been watering the plastic plant.",
    "A prime number has exactly two divisors, one and itself. There are infinitely many of them. Suppose there were only"
    " finitely many; multiply them all and add one. The result leaves a remainder of one when divided by any of them, so its"
    " own smallest divisor is a prime that was not on the list.",
    "Take the second turning on the right after the bridge, go past the bakery, and then keep to the river. The path is muddy"
    " where the poplars begin. If you come to a chapel without a roof, you have gone too far; turn round, and look for a blue"
    " gate.",
    "Wool keeps warm even when it is wet because each fibre is curled and holds a little air. Cotton fibres lie flat and soak"
    " up water, which carries heat away many times faster than air does. Hikers learn this once and do not forget it.",
    "The orchestra tuned, the lights went down, and somebody in the third row began to unwrap a sweet with great care, which"
    " took the whole of the slow movement.",
    "Photosynthesis turns light, water and carbon dioxide into sugar and oxygen. The oxygen comes from the water, not from"
    " the carbon dioxide, as was shown with a heavier kind of oxygen whose way through the plant could be followed.",
    "Q: What is the difference between weather and climate?\nA: Weather is what happens today and tomorrow in one place."
    " Climate is what usually happens there in a season, as seen over thirty years or more.",
    "Before there were clocks in every house, a town lived by its bells. They rang for the opening of the gates, for the"
    " market, for fire, and for the hour at which all hearths had to be covered. Travellers complained that in no two towns"
    " did they mean the same.",
    'for (let i = 0; i < rows.length; i++) {\n  const cells = rows[i].split(",");\n  if (cells.length !== header.length) {\n '
    "   throw new Error(`row ${i + 1}: expected ${header.length} cells, found ${cells.length}`);\n  }\n}\n",
    "A lake freezes from the top because water is heaviest at four degrees above freezing. Colder water floats, turns to ice,"
    " and covers the rest like a lid. If ice sank, lakes would fill with it from the bottom, and few fish would see the"
    " spring.",
    "My grandmother kept buttons in a tin that had once held biscuits. There were brass ones from a uniform, a green one"
    " shaped like a leaf, and dozens of small white ones, none of which ever matched the shirt that needed it.",
    "The new library opened on Monday. It has twice as many seats as the old one, a reading room that looks over the canal,"
    " and a machine that sorts returned books into crates. On the first day some four hundred people came, and one of them"
    " asked where the quiet was.",
    "To change a tyre, loosen the nuts a little while the wheel is still on the ground. Then lift the car, take the nuts off,"
    " and pull the wheel toward you. Put the spare on, tighten the nuts crosswise by hand, lower the car, and tighten them"
    " fully.",
    "Sound travels through air at about 340 metres a second. If you see a flash of lightning and count six seconds until the"
    " thunder, the storm is some two kilometres away. In water sound is more than four times faster, in steel about fifteen.",
    "The play has five acts and one joke, which is told in the second and explained in the fourth. The costumes were very"
    " fine.",
    "A contract is formed when one side makes an offer and the other accepts it without changing it. An answer that accepts"
    " but adds a condition is a new offer, and nothing is agreed until the first side says yes to that.",
    "In chess the knight is the only piece that jumps over others. It always lands on a square of the other colour, so it"
    " needs an even number of moves to come back to where it began.",
    "They walked in silence until the trees ended. Below them lay the valley with its three villages, and beyond it, very"
    ' small, the sea. "There," said the boy. "I told you that you could see it from here."',
    "Copper conducts heat so well that a pan made of it cools almost as soon as it leaves the fire. It also reacts with sour"
    " food, and for that reason the inside is covered with tin or steel.",
)
