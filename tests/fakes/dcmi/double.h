/* SPDX-License-Identifier: MulanPSL-2.0
 *
 * What the files of the double share. README.md describes the state file.
 *
 *   libdcmi.c   driver, cards, chips   events.c    the subscription and its thread
 *   readings.c  health, memory, ...    reset.c     what a reset changes
 *   calls.c     what every call does   products.c  cards, chips, sizes
 *   state.c     the file
 */
#ifndef DOUBLE_H
#define DOUBLE_H

#include <stdbool.h>
#include <stddef.h>

#include "dcmi.h"

#define HIDDEN __attribute__((visibility("hidden")))
#define NOT_STARTED 0xFFFFFFFFU
#define MAX_CHIPS 64
#define MAX_NAME 64

struct product {
    const char *name;         /* the word in the state file */
    const char *chip_name;    /* what the driver calls the chip */
    const char *product_type;
    int chips_per_card;
    int cards;                /* when the state does not say */
    unsigned int board_id;
    unsigned int pci_device;
    unsigned int aicores;
    unsigned int hbm_mb;      /* 0: none, the memory is DDR */
    unsigned int ddr_mb;
    unsigned int idle_mb;
    int power_tenths_w;
    int utilizations[10];     /* the types that it answers, 0 ends them */
};

struct chip {
    int card;
    int device;
    int logic_id;
    int phy_id;               /* N of its /dev/davinciN */
};

struct fault {
    unsigned int code;
    unsigned int severity;
    bool curable;
    char text[DCMI_MAX_EVENT_NAME];
};

/* state.c: all of it with the lock held, what it returns is valid until it is let go. */
HIDDEN const char *state_path(void);
HIDDEN void state_lock(void);             /* and bring up to date */
HIDDEN void state_unlock(void);
HIDDEN void state_wait(void);             /* lets go of the lock for a moment */
HIDDEN bool state_exists(void);
HIDDEN bool state_changed(void);          /* since the last time that this was asked */
HIDDEN const char *state_find(const char *key, int index); /* what follows the key in a line */
HIDDEN long state_number(const char *key, long otherwise);
HIDDEN const char *state_chip(const struct chip *chip, const char *key, int index);
HIDDEN long state_chip_number(const struct chip *chip, const char *key, long otherwise);
HIDDEN bool state_has_word(const char *text, const char *word);
typedef bool (*keep_line)(const char *line, const void *context);
HIDDEN int state_rewrite(keep_line keep, const void *context, const char *added);

/* products.c */
HIDDEN const struct product *product_now(void);
HIDDEN int list_cards(int *cards, int room);
HIDDEN int list_chips(struct chip *chips, int room);
HIDDEN bool find_chip(int card, int device, struct chip *found);
HIDDEN void unlist_card(int card);        /* for the life of this process */
HIDDEN bool is_mcu(int card, int device);
HIDDEN int list_reset_together(const struct chip *chip, struct chip *chips, int room);

/* calls.c: enter_* locks and says whether the call may go on, leave unlocks. */
enum need { STARTED, PRESENT, ANYHOW };
HIDDEN int enter(const char *function);
HIDDEN int enter_init(void);
HIDDEN int enter_chip(const char *function, int card, int device, enum need need, struct chip *chip);
HIDDEN int leave(int result);
HIDDEN int invalid_unless(int result, bool condition);
HIDDEN int boot_status_of(const struct chip *chip);
HIDDEN int list_faults(const struct chip *chip, struct fault *faults, int room);
HIDDEN bool parse_fault(const char *text, struct fault *fault);
HIDDEN int count_processes(const struct chip *chip);
HIDDEN void log_call(const char *function, const char *subject, int result, const char *more);

#endif
