/* SPDX-License-Identifier: MulanPSL-2.0
 *
 * The products: which cards and chips there are, and what is fixed about them (facts: 2, 6).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "double.h"

#define UTILIZATIONS_910 {2, 3, 4, 6, 10, 12, 13}
#define UTILIZATIONS_310P {1, 2, 3, 4, 5, 8, 12}

static const struct product products[] = {
    {"910B3", "910B3", "Atlas 800I A2", 1, 8, 0x33, 0xD802, 20, 65536, 0, 3445, 1028,
     UTILIZATIONS_910},
    {"910B4", "910B4", "Atlas 800I A2", 1, 8, 0x33, 0xD802, 20, 32768, 0, 2654, 946,
     UTILIZATIONS_910},
    {"Ascend910", "Ascend910", "Atlas 800I A3", 2, 8, 0xB0, 0xD803, 24, 65536, 0, 3130, 2113,
     UTILIZATIONS_910},
    {"310P3", "310P3", "Atlas 300I Duo", 2, 4, 0, 0xD500, 8, 0, 44280, 1414, 721,
     UTILIZATIONS_310P},
};

const struct product *product_now(void)
{
    const char *name = state_find("product", 0);
    for (size_t n = 0; name != NULL && n < sizeof(products) / sizeof(*products); n++)
        if (strcmp(products[n].name, name) == 0)
            return &products[n];
    return &products[0];
}

/* The ids of a Duo are not contiguous: 1, 2, 4, 5, then the same again 32 higher. */
static int card_id(int index)
{
    static const int duo[] = {1, 2, 4, 5};
    return strcmp(product_now()->name, "310P3") == 0 ? duo[index % 4] + 32 * (index / 4) : index;
}

/* NULL: it is there. */
static const char *absence_of(int card)
{
    for (int n = 0;; n++) {
        const char *value = state_find("absent", n);
        if (value == NULL || strtol(value, NULL, 0) == card)
            return value;
    }
}

static int unlisted[MAX_CHIPS], unlisted_count;

void unlist_card(int card)
{
    if (unlisted_count < MAX_CHIPS)
        unlisted[unlisted_count++] = card;
}

static bool is_unlisted(int card)
{
    for (int n = 0; n < unlisted_count; n++)
        if (unlisted[n] == card)
            return true;
    return false;
}

int list_chips(struct chip *chips, int room)
{
    const struct product *product = product_now();
    int cards = (int)state_number("cards", product->cards), count = 0;
    int logic_id = 0, place = 0;
    for (int index = 0; index < cards; index++) {
        const char *absence = absence_of(card_id(index));
        for (int device = 0; device < product->chips_per_card && count < room; device++, place++) {
            if (absence == NULL && !is_unlisted(card_id(index)))
                chips[count++] = (struct chip){card_id(index), device, logic_id, place};
            if (!state_has_word(absence, "boot"))
                logic_id++;
        }
    }
    return count;
}

int list_cards(int *cards, int room)
{
    struct chip chips[MAX_CHIPS];
    int count = 0, chip_count = list_chips(chips, MAX_CHIPS);
    for (int n = 0; n < chip_count && count < room; n++)
        if (chips[n].device == 0)
            cards[count++] = chips[n].card;
    return count;
}

bool find_chip(int card, int device, struct chip *found)
{
    struct chip chips[MAX_CHIPS];
    int count = list_chips(chips, MAX_CHIPS);
    for (int n = 0; n < count; n++)
        if (chips[n].card == card && chips[n].device == device) {
            *found = chips[n];
            return true;
        }
    return false;
}

/* The controller of a card comes after its chips. */
bool is_mcu(int card, int device)
{
    struct chip first;
    return device == product_now()->chips_per_card && find_chip(card, 0, &first);
}

/* Dies of one card reset together; with HCCS, all chips of the host do. */
int list_reset_together(const struct chip *chip, struct chip *chips, int room)
{
    struct chip all[MAX_CHIPS];
    int count = 0, all_count = list_chips(all, MAX_CHIPS);
    bool whole_host = state_has_word(state_find("hccs", 0), "on");
    for (int n = 0; n < all_count && count < room; n++)
        if (whole_host || all[n].card == chip->card)
            chips[count++] = all[n];
    return count;
}
