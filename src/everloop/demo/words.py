"""The words of the simulated marketplace: what things are called, praised and measured by.

Everything here is ours, made up for this marketplace. Brands and models are coined from syllables, so that none is
anybody's trade mark by intent.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from everloop.demo.dice import Dice

Language = Literal["en", "de", "fr"]


class Measure(NamedTuple):
    """How big such a thing is: from `low` to `high` in steps of `step`, in `unit`.

    Merchants elsewhere say it in `other`, which is `factor` times the number plus `offset`.
    """

    low: float
    high: float
    step: float
    unit: str
    other: str
    factor: float
    offset: float = 0.0


class Vocabulary(NamedTuple):
    """How a category is written about.

    Features in `own` tell it from its neighbours, those in `shared` do not. `loose_nouns` are what last winter's
    remainders are called: words that fit the neighbours as well.
    """

    nouns: dict[Language, tuple[str, ...]]
    loose_nouns: dict[Language, tuple[str, ...]]
    shared: tuple[str, ...]
    own: tuple[str, ...]
    measure: Measure
    materials: tuple[str, ...]


def _list(text: str) -> tuple[str, ...]:
    return tuple(text.split("|"))


def _vocabulary(
    en: str, de: str, fr: str, shared: str, own: str, materials: str, measure: Measure, loose: str = ""
) -> Vocabulary:
    nouns: dict[Language, tuple[str, ...]] = {"en": _list(en), "de": _list(de), "fr": _list(fr)}
    loose_nouns = nouns
    if loose:
        in_english, in_german, in_french = loose.split("/")
        loose_nouns = {"en": _list(in_english), "de": _list(in_german), "fr": _list(in_french)}
    return Vocabulary(nouns, loose_nouns, _list(shared), _list(own), measure, _list(materials))


_LITRES = ("l", "oz", 33.8)
_CENTIMETRES = ("cm", "in", 0.394)
_SHOES = Measure(36, 47, 1, "eu", "uk", 1.0, -33.0)
_CLOTHES = Measure(36, 56, 2, "eur", "us", 1.0, -10.0)

_KITCHEN = "dishwasher safe|easy clean|gift boxed|kitchen|everyday|two year guarantee"
_AIR = "oscillating|timer|remote control|quiet running|three settings|carry handle|floor standing|thermostat dial"
_FEET = "grip sole|lace up|wide fit|padded collar|cushioned|for men and women|water resistant|pull loop"
_OUTER = "hooded|two way zip|taped seams|relaxed fit|water resistant|deep pockets|adjustable cuffs|for men and women"
_CAMP = "camping|festival|compact|carry sack|weatherproof|garden|trekking"
_BAG = "padded straps|side pockets|fold flat|travel|picnic|front pocket|day trip"

VOCABULARIES: dict[str, Vocabulary] = {
    "Kettles": _vocabulary(
        "kettle|water kettle|tea kettle|jug kettle", "wasserkocher|teekessel", "bouilloire", _KITCHEN,
        "swan neck|cordless base|limescale filter|fast boil|auto off|water gauge|whistling|tea lovers",
        "brushed steel|glass|enamel|copper tone", Measure(0.8, 2.0, 0.1, *_LITRES),
    ),
    "Pans": _vocabulary(
        "pan|frying pan|skillet|saute pan", "pfanne|bratpfanne", "poele", _KITCHEN,
        "non stick|induction ready|oven proof|riveted handle|pouring lip|even heat|searing|pancakes",
        "cast iron|hard anodised|brushed steel|carbon steel", Measure(18, 32, 2, *_CENTIMETRES),
    ),
    "Mugs": _vocabulary(
        "mug|cup|tea mug|coffee mug", "becher|tasse", "tasse|gobelet", _KITCHEN,
        "hand glazed|stackable|set of four|wide rim|microwave safe|speckled|espresso|breakfast",
        "stoneware|enamel|bone china|glass", Measure(0.2, 0.5, 0.05, *_LITRES),
    ),
    "Fans": _vocabulary(
        "fan|desk fan|tower fan|air circulator", "ventilator|turmventilator", "ventilateur", _AIR,
        "summer breeze|cooling|metal blades|night mode|usb powered|clip on|air flow|high velocity",
        "white plastic|chrome|matt plastic", Measure(20, 46, 2, *_CENTIMETRES),
    ),
    "Heaters": _vocabulary(
        "heater|oil heater|radiator|room heater", "heizer|radiator", "chauffage|radiateur", _AIR,
        "oil filled|tip over switch|ceramic plates|frost guard|warms up fast|seven fins|cosy|convector",
        "white plastic|steel|matt plastic", Measure(20, 60, 2, *_CENTIMETRES),
        loose="fan heater|tower fan|air circulator/turmventilator|luefter/ventilateur",
    ),
    "Sandals": _vocabulary(
        "sandal|sandals|slides|strap sandals", "sandale|sandalen", "sandale|sandales", _FEET,
        "cork footbed|open toe|beach|hook and loop straps|quick dry|poolside|slip on|summer",
        "vegan leather|suede|recycled rubber|canvas", _SHOES,
    ),
    "Trail Shoes": _vocabulary(
        "trail shoe|hiking boot|walking boots|trail runner", "wanderschuh|wanderstiefel|trekkingschuh",
        "chaussure de marche|bottes de marche", _FEET,
        "rock plate|mesh upper|toe guard|ridge walks|deep lugs|lightweight|breathable|ankle support",
        "suede|ripstop mesh|nubuck|recycled rubber", _SHOES,
    ),
    "Winter Boots": _vocabulary(
        "snow boots|winter boots|lined boots", "schneestiefel|winterstiefel", "bottes d'hiver|bottes de neige",
        _FEET,
        "fleece lined|snow|to minus twenty|faux fur cuff|knee high|insulated sole|ice spikes|slush proof",
        "suede|nubuck|rubber shell|waxed leather", _SHOES,
        loose="walking boots|hiking boot/wanderstiefel|trekkingschuh/bottes de marche",
    ),
    "Rain Jackets": _vocabulary(
        "rain jacket|jacket|shell jacket|anorak", "regenjacke|jacke|windjacke", "veste de pluie|veste", _OUTER,
        "packs away|breathable|storm flap|fully waterproof|reflective|windproof|cycling|three layer",
        "ripstop nylon|recycled polyester|waxed cotton", _CLOTHES,
    ),
    "Winter Coats": _vocabulary(
        "coat|winter coat|parka", "mantel|wintermantel", "manteau|manteau d'hiver", _OUTER,
        "down filled|quilted|fur trim|thigh length|insulated|for frosty days|fleece collar|box wall baffles",
        "recycled polyester|ripstop nylon|wool blend", _CLOTHES,
        loose="jacket|anorak|shell jacket/jacke|windjacke/veste",
    ),
    "Tents": _vocabulary(
        "tent|dome tent|tunnel tent|family tent", "zelt|kuppelzelt", "tente", _CAMP,
        "sewn in groundsheet|porch|fibreglass poles|quick pitch|mesh inner|guy lines|blackout room|two doors",
        "ripstop nylon|recycled polyester|polycotton", Measure(180, 460, 20, *_CENTIMETRES),
    ),
    "Lanterns": _vocabulary(
        "lantern|camp light|table lantern|storm lantern", "laterne|campinglampe", "lanterne", _CAMP,
        "warm glow|dimmable|rechargeable|hanging hook|flicker mode|power bank|solar lid|runs forty hours",
        "brass|frosted glass|matt plastic|tin", Measure(12, 36, 2, *_CENTIMETRES),
    ),
    "Backpacks": _vocabulary(
        "backpack|rucksack|daypack|roll top bag", "rucksack|tagesrucksack", "sac a dos", _BAG,
        "laptop sleeve|chest strap|rain cover|back panel|school|commuter|bottle holder|hip belt",
        "canvas|ripstop nylon|recycled polyester", Measure(12, 64, 2, *_LITRES),
    ),
    "Cool Bags": _vocabulary(
        "cool bag|cooler|insulated bag|ice box", "kuehltasche|kuehlbox", "glaciere|sac isotherme", _BAG,
        "leak proof|ice packs|keeps cold|drinks|lunch|wipe clean lining|bottle upright|beach",
        "canvas|recycled polyester|hard shell", Measure(6, 40, 2, *_LITRES),
    ),
}  # fmt: skip

COLOURS: dict[Language, dict[str, str]] = {
    "en": {},  # the names of colours are English already
    "de": {"black": "schwarz", "white": "weiss", "red": "rot", "blue": "blau", "green": "gruen", "yellow": "gelb",
           "grey": "grau", "brown": "braun", "orange": "orange", "pink": "rosa", "teal": "petrol", "sand": "sand",
           "navy": "marine", "wine": "weinrot"},
    "fr": {"black": "noir", "white": "blanc", "red": "rouge", "blue": "bleu", "green": "vert", "yellow": "jaune",
           "grey": "gris", "brown": "marron", "orange": "orange", "pink": "rose", "teal": "canard", "sand": "sable",
           "navy": "marine", "wine": "bordeaux"},
}  # fmt: skip

SHORT = {
    "black": "blk", "white": "wht", "water resistant": "wr", "recycled": "rec", "with": "w/", "stainless": "ss",
    "brushed steel": "br stl", "for men and women": "unisex", "remote control": "rc", "lightweight": "lw",
    "insulated": "insul", "polyester": "poly", "jacket": "jkt", "padded": "pdd", "backpack": "bkpk", "grey": "gry",
    "rechargeable": "rechg", "fully waterproof": "wp", "quilted": "qltd", "fleece lined": "flc lnd", "boots": "bts",
    "oscillating": "osc", "two year guarantee": "2y", "three settings": "3 set", "frying pan": "fry pan",
}  # fmt: skip

HYPE = _list("new|sale|top|bargain|last pieces|bestseller|free delivery|original|2026 range|must have")

# What a merchant says about any thing; it tells nothing of the category.
BOILERPLATE: dict[Language, tuple[str, ...]] = {
    "en": _list(
        "Ships within two working days.|Unopened, in its original carton.|Returns are free for thirty days.|"
        "Photos may differ slightly from the article.|Ask us for a better price on larger orders.|"
        "From our own warehouse, no third parties.|Colours can look different on your screen."
    ),
    "de": _list(
        "Versand innerhalb von zwei Werktagen.|Neu und unbenutzt im Karton.|Rueckgabe dreissig Tage lang kostenlos.|"
        "Abbildung aehnlich.|Bei groesseren Mengen bitte anfragen."
    ),
    "fr": _list(
        "Expedie sous deux jours ouvres.|Neuf, dans son carton.|Retour gratuit pendant trente jours.|"
        "Photo non contractuelle.|Contactez nous pour de grandes quantites."
    ),
}

# What introduces the thing itself; {noun} and {features} are filled in.
PRAISE: dict[Language, tuple[str, ...]] = {
    "en": _list(
        "Made to last: {noun}.|{noun} with {features}.|Our customers love it: {noun}.|"
        "Well made {noun}, {features}.|{noun}, nothing more and nothing less: {features}."
    ),
    "de": _list(
        "{noun} mit {features}.|Dieser Artikel haelt Jahre: {noun}, {features}.|{noun}, gut verarbeitet."
    ),
    "fr": _list(
        "{noun} avec {features}.|Un article fait pour durer: {noun}, {features}.|{noun} de bonne qualite."
    ),
}

_HEADS = _list(
    "Vel|Tar|Os|Brun|Kli|Mor|Fjel|Zan|Quo|Hal|Ny|Dru|Pel|Ruv|Sel|Wex|Ild|Gro|Eb|Lun|Stev|Om|Cas|Tre|Ub|Jor"
)
_TAILS = _list("mora|nik|wick|dal|essa|ovan|thorn|iva|una|arc|ello|und|ista|ery|olt|amen|ax|ogg|inde|usk")
_MODELS = _list("Orv|Pim|Sola|Tek|Ayr|Bex|Cor|Dun|Fyn|Gal|Hex|Jun|Kip|Lor|Mab|Nix|Oka|Pax|Rho|Sky|Tol|Vim")


def coin_brands(count: int, dice: Dice) -> list[str]:
    """`count` different brand names; at most `len(_HEADS) * len(_TAILS)`, which is 520."""
    return dice.several([head + tail for head in _HEADS for tail in _TAILS], count)


def coin_model(dice: Dice) -> str:
    """A model's name such as 'Orvik 320' or 'TK 450'; its words recur, so that new products are no new language."""
    if dice.chance(0.35):
        name = "".join(dice.pick("BCDFGHKLMNPRSTVXZ") for _ in range(2))
    else:
        name = dice.pick(_MODELS) + dice.pick(("", "ia", "o", "us", "ik", "era"))
    return f"{name} {10 * (1 + dice.below(99))}"
