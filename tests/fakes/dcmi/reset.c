/* SPDX-License-Identifier: MulanPSL-2.0
 *
 * A reset: takes the chips down that go together, and brings them up as the state orders:
 *
 *   reset C.D works [SECONDS]   what is curable is gone, the chip boots for `boot-time` seconds
 *   reset C.D keeps [SECONDS]   it boots, and the codes are still there
 *   reset C.D fails [SECONDS]   -8015, nothing has changed
 *   reset C.D stuck [SECONDS]   what is curable is gone, the boot status never goes beyond 2
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "double.h"

#define BOOT_SECONDS 0.3

struct change {
    struct chip chips[MAX_CHIPS];
    int count;
    bool cure;
};

static long long monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

static bool is_cured(const char *rest)
{
    struct fault fault;
    if (starts_with(rest, "code "))
        return parse_fault(rest + strlen("code "), &fault) && fault.curable;
    return starts_with(rest, "health ") || starts_with(rest, "left ") || strcmp(rest, "dropped curable") == 0;
}

static bool keep(const char *line, const void *context)
{
    const struct change *change = context;
    for (int n = 0; n < change->count; n++) {
        char prefix[MAX_NAME];
        snprintf(prefix, sizeof(prefix), "chip %d.%d ", change->chips[n].card,
                 change->chips[n].device);
        if (!starts_with(line, prefix))
            continue;
        const char *rest = line + strlen(prefix);
        if (starts_with(rest, "boot ") || starts_with(rest, "booting "))
            return false;
        return !(change->cure && is_cured(rest));
    }
    return true;
}

static void apply(const struct change *change, const char *added)
{
    char lines[MAX_CHIPS * MAX_NAME] = "";
    size_t at = 0;
    for (int n = 0; *added != '\0' && n < change->count; n++)
        at += (size_t)snprintf(lines + at, sizeof(lines) - at, "chip %d.%d %s\n",
                               change->chips[n].card, change->chips[n].device, added);
    if (state_rewrite(keep, change, lines) != 0)
        fputs("libdcmi double: cannot write its state\n", stderr);
}

static void wait_seconds(double seconds)
{
    long long until = monotonic_ns() + (long long)(seconds * 1e9);
    while (monotonic_ns() < until)
        state_wait();
}

static int run(const struct chip *chip, struct change *change)
{
    char key[MAX_NAME], mode[16] = "works", booting[MAX_NAME];
    double seconds = 0;
    snprintf(key, sizeof(key), "reset %d.%d", chip->card, chip->device);
    const char *order = state_find(key, 0);
    if (order != NULL)
        sscanf(order, "%15s %lf", mode, &seconds);
    apply(change, "boot 0");
    wait_seconds(seconds);
    if (strcmp(mode, "fails") == 0) {
        apply(change, "");
        return DCMI_ERR_CODE_RESET_FAIL;
    }
    const char *boot_time = state_find("boot-time", 0);
    snprintf(booting, sizeof(booting), "booting %lld %f", monotonic_ns(),
             boot_time != NULL ? strtod(boot_time, NULL) : BOOT_SECONDS);
    change->cure = strcmp(mode, "keeps") != 0;
    apply(change, strcmp(mode, "stuck") == 0 ? "boot 2" : booting);
    return DCMI_OK;
}

static int refuse(const struct chip *chip, enum dcmi_reset_channel channel, int busy)
{
    const char *dropped = state_chip(chip, "dropped", 0);
    if (channel != INBAND_CHANNEL)
        return channel == OUTBAND_CHANNEL ? DCMI_ERR_CODE_NOT_SUPPORT
                                          : DCMI_ERR_CODE_INVALID_PARAMETER;
    if (geteuid() != 0)
        return DCMI_ERR_CODE_OPER_NOT_PERMITTED;
    if (strcmp(product_now()->name, "310P3") == 0 && chip->device != 0)
        return DCMI_ERR_CODE_NOT_SUPPORT; /* SMP mode: only chip 0 */
    if (dropped != NULL && !state_has_word(dropped, "curable"))
        return DCMI_ERR_CODE_NOT_REDAY;
    return busy > 0 ? DCMI_ERR_CODE_RESET_FAIL : DCMI_OK;
}

int dcmi_set_device_reset(int card, int device, enum dcmi_reset_channel channel)
{
    struct chip chip;
    struct change change = {.cure = false};
    char subject[MAX_NAME], more[MAX_NAME];
    int busy = 0, result = enter_chip("set_device_reset", card, device, ANYHOW, &chip);
    if (result == DCMI_OK) {
        change.count = list_reset_together(&chip, change.chips, MAX_CHIPS);
        for (int n = 0; n < change.count; n++)
            busy += count_processes(&change.chips[n]);
        result = refuse(&chip, channel, busy);
    }
    if (result == DCMI_OK)
        result = run(&chip, &change);
    snprintf(subject, sizeof(subject), "%d.%d", card, device);
    snprintf(more, sizeof(more), "busy=%d", busy);
    log_call("set_device_reset", subject, result, more);
    state_unlock();
    return result;
}
