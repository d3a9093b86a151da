/* SPDX-License-Identifier: MulanPSL-2.0
 *
 * Queries about how a chip is: what the state says, else what is usual for the product.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "double.h"

#define MIN_TEXT 48

static unsigned int health_of(const struct chip *chip)
{
    struct fault faults[DCMI_MAX_ERROR_CODES];
    unsigned int health = 0;
    if (boot_status_of(chip) != DCMI_SYSTEM_START_FINISH)
        return NOT_STARTED;
    int count = list_faults(chip, faults, DCMI_MAX_ERROR_CODES);
    for (int n = 0; n < count; n++)
        health = faults[n].severity > health ? faults[n].severity : health;
    const char *said = state_chip(chip, "health", 0);
    return said != NULL ? (unsigned int)strtoul(said, NULL, 0) : health;
}

int dcmi_get_device_health(int card, int device, unsigned int *health)
{
    struct chip chip;
    int result = enter_chip("get_device_health", card, device, PRESENT, &chip);
    result = invalid_unless(result, health != NULL);
    if (result == DCMI_OK)
        *health = health_of(&chip);
    return leave(result);
}

int dcmi_get_device_errorcode_v2(int card, int device, int *count, unsigned int *list,
                                 unsigned int list_len)
{
    struct chip chip;
    struct fault faults[DCMI_MAX_ERROR_CODES];
    int result = enter_chip("get_device_errorcode_v2", card, device, STARTED, &chip);
    result = invalid_unless(result, count != NULL && list != NULL && list_len > 0);
    if (result == DCMI_OK) {
        int room = list_len < DCMI_MAX_ERROR_CODES ? (int)list_len : DCMI_MAX_ERROR_CODES;
        *count = list_faults(&chip, faults, room);
        for (int n = 0; n < *count; n++)
            list[n] = faults[n].code;
    }
    return leave(result);
}

/* A text is known while a chip has the code, or by a line "text CODE WORDS". */
static bool find_text(unsigned int code, char *text, size_t room)
{
    struct chip chips[MAX_CHIPS];
    struct fault faults[DCMI_MAX_ERROR_CODES];
    int chip_count = list_chips(chips, MAX_CHIPS);
    for (int c = 0; c < chip_count; c++) {
        int count = list_faults(&chips[c], faults, DCMI_MAX_ERROR_CODES);
        for (int n = 0; n < count; n++)
            if (faults[n].code == code) {
                snprintf(text, room, "%s", faults[n].text);
                return true;
            }
    }
    char key[MAX_NAME];
    snprintf(key, sizeof(key), "text %08X", code);
    const char *found = state_find(key, 0);
    if (found != NULL)
        snprintf(text, room, "%s", found);
    return found != NULL;
}

int dcmi_get_device_errorcode_string(int card, int device, unsigned int code, unsigned char *info,
                                     int size)
{
    struct chip chip;
    int result = enter_chip("get_device_errorcode_string", card, device, STARTED, &chip);
    result = invalid_unless(result, info != NULL && size >= MIN_TEXT);
    if (result == DCMI_OK && !find_text(code, (char *)info, (size_t)size))
        result = DCMI_ERR_CODE_NOT_SUPPORT;
    return leave(result);
}

int dcmi_get_device_boot_status(int card, int device, enum dcmi_boot_status *status)
{
    struct chip chip;
    int result = enter_chip("get_device_boot_status", card, device, PRESENT, &chip);
    result = invalid_unless(result, status != NULL);
    if (result == DCMI_OK)
        *status = (enum dcmi_boot_status)boot_status_of(&chip);
    return leave(result);
}

int dcmi_get_device_temperature(int card, int device, int *temperature)
{
    struct chip chip;
    int result = enter_chip("get_device_temperature", card, device, STARTED, &chip);
    result = invalid_unless(result, temperature != NULL);
    if (result == DCMI_OK)
        *temperature = (int)state_chip_number(&chip, "temperature", 45);
    return leave(result);
}

/* The numbers in the state are those of the memory that the chip has: HBM, or DDR on a Duo. */
int dcmi_get_device_ecc_info(int card, int device, enum dcmi_device_type type,
                             struct dcmi_ecc_info *info)
{
    struct chip chip;
    int result = enter_chip("get_device_ecc_info", card, device, STARTED, &chip);
    result = invalid_unless(result, info != NULL);
    bool has_hbm = product_now()->hbm_mb != 0;
    if (result == DCMI_OK && type != (has_hbm ? DCMI_DEVICE_TYPE_HBM : DCMI_DEVICE_TYPE_DDR))
        result = DCMI_ERR_CODE_NOT_SUPPORT;
    if (result == DCMI_OK) {
        unsigned int numbers[DCMI_ECC_NUMBERS] = {1};
        const char *at = state_chip(&chip, "ecc", 0);
        for (int n = 1; at != NULL && n < DCMI_ECC_NUMBERS; n++) {
            char *end;
            numbers[n] = (unsigned int)strtoul(at, &end, 10);
            at = end;
        }
        _Static_assert(sizeof(numbers) == sizeof(*info), "one int after the other");
        memcpy(info, numbers, sizeof(*info));
    }
    return leave(result);
}

static unsigned int used_mb(const struct chip *chip)
{
    unsigned int used = product_now()->idle_mb;
    const char *line;
    for (int n = 0; (line = state_chip(chip, "process", n)) != NULL; n++) {
        unsigned int pid, mb;
        if (sscanf(line, "%u %u", &pid, &mb) == 2)
            used += mb;
    }
    used += (unsigned int)state_chip_number(chip, "left", 0);
    return (unsigned int)state_chip_number(chip, "used", used);
}

int dcmi_get_device_hbm_info(int card, int device, struct dcmi_hbm_info *info)
{
    struct chip chip;
    int result = enter_chip("get_device_hbm_info", card, device, STARTED, &chip);
    result = invalid_unless(result, info != NULL);
    if (result == DCMI_OK && product_now()->hbm_mb == 0)
        result = DCMI_ERR_CODE_NOT_SUPPORT;
    if (result == DCMI_OK)
        *info = (struct dcmi_hbm_info){
            .memory_size = (unsigned long long)state_chip_number(&chip, "memory",
                                                                 product_now()->hbm_mb),
            .freq = 1600,
            .memory_usage = used_mb(&chip),
            .temp = (int)state_chip_number(&chip, "hbm-temperature", 44),
        };
    return leave(result);
}

int dcmi_get_hbm_info(int card, int device, struct dsmi_hbm_info_stru *info)
{
    struct dcmi_hbm_info newer;
    if (info == NULL)
        return DCMI_ERR_CODE_INVALID_PARAMETER;
    int result = dcmi_get_device_hbm_info(card, device, &newer);
    if (result == DCMI_OK)
        *info = (struct dsmi_hbm_info_stru){
            .memory_size = newer.memory_size * 1024,
            .freq = newer.freq,
            .memory_usage = newer.memory_usage * 1024,
            .temp = newer.temp,
        };
    return result;
}

/* DDR: all the memory of a Duo; a chip with HBM has none. */
int dcmi_get_device_memory_info_v3(int card, int device, struct dcmi_get_memory_info_stru *info)
{
    struct chip chip;
    int result = enter_chip("get_device_memory_info_v3", card, device, STARTED, &chip);
    result = invalid_unless(result, info != NULL);
    if (result == DCMI_OK) {
        unsigned int size = product_now()->ddr_mb, used = size != 0 ? used_mb(&chip) : 0;
        memset(info, 0, sizeof(*info));
        info->memory_size = size;
        info->memory_available = used < size ? size - used : 0;
        info->freq = 1600;
        info->hugepagesize = 2048;
        info->utiliza = size != 0 ? 100 * used / size : 0;
    }
    return leave(result);
}

int dcmi_get_device_utilization_rate(int card, int device, int type, unsigned int *rate)
{
    struct chip chip;
    char key[MAX_NAME];
    bool answered = false;
    int result = enter_chip("get_device_utilization_rate", card, device, STARTED, &chip);
    result = invalid_unless(result, rate != NULL);
    for (const int *known = product_now()->utilizations; *known != 0; known++)
        answered |= *known == type;
    if (result == DCMI_OK && !answered)
        result = DCMI_ERR_CODE_NOT_SUPPORT;
    if (result == DCMI_OK) {
        snprintf(key, sizeof(key), "utilization %d", type);
        *rate = (unsigned int)state_chip_number(&chip, key, 0);
    }
    return leave(result);
}

/* By the card where its chips cannot say: the first die of an A3, the controller of a Duo. */
int dcmi_get_device_power_info(int card, int device, int *power)
{
    struct chip chip;
    const struct product *product;
    int result = enter_chip("get_device_power_info", card, device, STARTED, &chip);
    product = product_now();
    if (product->hbm_mb == 0 && result == DCMI_OK)
        result = DCMI_ERR_CODE_NOT_SUPPORT;
    else if (product->hbm_mb == 0 && result == DCMI_ERR_CODE_NOT_SUPPORT && is_mcu(card, device))
        result = find_chip(card, 0, &chip) ? DCMI_OK : result;
    else if (device != 0 && result == DCMI_OK)
        result = DCMI_ERR_CODE_NOT_SUPPORT;
    result = invalid_unless(result, power != NULL);
    if (result == DCMI_OK)
        *power = (int)state_chip_number(&chip, "power", product->power_tenths_w);
    return leave(result);
}
