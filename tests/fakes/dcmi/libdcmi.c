/* SPDX-License-Identifier: MulanPSL-2.0
 *
 * Queries about what does not change by itself: driver, cards, chips, and who uses them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "double.h"

#define MIN_PRODUCT 32
#define MIB (1024UL * 1024UL)

static int put_text(char *out, size_t room, const char *text)
{
    if (out == NULL || room <= strlen(text))
        return DCMI_ERR_CODE_INVALID_PARAMETER;
    strcpy(out, text);
    return DCMI_OK;
}

int dcmi_init(void)
{
    return leave(enter_init());
}

int dcmi_get_dcmi_version(char *version, unsigned int length)
{
    int result = enter("get_dcmi_version");
    const char *text = state_find("driver", 0);
    return leave(result ? result : put_text(version, length, text ? text : "25.5.1"));
}

int dcmi_get_driver_version(char *version, unsigned int length)
{
    int result = enter("get_driver_version");
    const char *text = state_find("driver", 0);
    return leave(result ? result : put_text(version, length, text ? text : "25.5.1"));
}

int dcmi_get_driver_health(unsigned int *health)
{
    int result = invalid_unless(enter("get_driver_health"), health != NULL);
    if (result == DCMI_OK)
        *health = (unsigned int)state_number("driver-health", 0);
    return leave(result);
}

int dcmi_get_card_list(int *card_num, int *card_list, int list_len)
{
    int result = enter("get_card_list");
    result = invalid_unless(result, card_num != NULL && card_list != NULL && list_len > 0);
    if (result == DCMI_OK)
        *card_num = list_cards(card_list, list_len);
    return leave(result);
}

int dcmi_get_card_num_list(int *card_num, int *card_list, int list_len)
{
    return dcmi_get_card_list(card_num, card_list, list_len);
}

static int enter_card(const char *function, int card)
{
    struct chip first;
    int result = enter(function);
    if (result == DCMI_OK && !find_chip(card, 0, &first))
        result = DCMI_ERR_CODE_DEVICE_NOT_EXIST;
    return result;
}

int dcmi_get_device_num_in_card(int card, int *device_num)
{
    int result = invalid_unless(enter_card("get_device_num_in_card", card), device_num != NULL);
    if (result == DCMI_OK)
        *device_num = product_now()->chips_per_card;
    return leave(result);
}

int dcmi_get_device_id_in_card(int card, int *device_id_max, int *mcu_id, int *cpu_id)
{
    int result = enter_card("get_device_id_in_card", card);
    result = invalid_unless(result, device_id_max != NULL && mcu_id != NULL && cpu_id != NULL);
    if (result == DCMI_OK) {
        *device_id_max = *mcu_id = product_now()->chips_per_card;
        *cpu_id = -1;
    }
    return leave(result);
}

int dcmi_get_device_type(int card, int device, enum dcmi_unit_type *type)
{
    struct chip chip;
    int result = enter_chip("get_device_type", card, device, ANYHOW, &chip);
    bool mcu = result == DCMI_ERR_CODE_NOT_SUPPORT && is_mcu(card, device);
    result = invalid_unless(mcu ? DCMI_OK : result, type != NULL);
    if (result == DCMI_OK)
        *type = mcu ? MCU_TYPE : NPU_TYPE;
    return leave(result);
}

static void describe(struct dcmi_chip_info_v2 *info)
{
    const struct product *product = product_now();
    memset(info, 0, sizeof(*info));
    strcpy((char *)info->chip_type, "Ascend");
    strcpy((char *)info->chip_name, product->chip_name);
    strcpy((char *)info->chip_ver, "V1");
    strcpy((char *)info->npu_name, product->chip_name);
    info->aicore_cnt = product->aicores;
}

int dcmi_get_device_chip_info_v2(int card, int device, struct dcmi_chip_info_v2 *info)
{
    struct chip chip;
    int result = enter_chip("get_device_chip_info_v2", card, device, STARTED, &chip);
    result = invalid_unless(result, info != NULL);
    if (result == DCMI_OK)
        describe(info);
    return leave(result);
}

int dcmi_get_device_chip_info(int card, int device, struct dcmi_chip_info *info)
{
    struct chip chip;
    struct dcmi_chip_info_v2 whole;
    int result = enter_chip("get_device_chip_info", card, device, STARTED, &chip);
    result = invalid_unless(result, info != NULL);
    if (result == DCMI_OK) {
        describe(&whole);
        memcpy(info, &whole, sizeof(*info));
    }
    return leave(result);
}

int dcmi_get_device_board_info(int card, int device, struct dcmi_board_info *info)
{
    struct chip chip;
    int result = enter_chip("get_device_board_info", card, device, STARTED, &chip);
    result = invalid_unless(result, info != NULL);
    if (result == DCMI_OK) {
        long board = state_number("board", product_now()->board_id);
        *info = (struct dcmi_board_info){(unsigned int)board, 1, 1, (unsigned int)card};
    }
    return leave(result);
}

/* The chips of a Duo share one address. */
int dcmi_get_device_pcie_info_v2(int card, int device, struct dcmi_pcie_info_all *info)
{
    struct chip chip;
    int result = enter_chip("get_device_pcie_info_v2", card, device, STARTED, &chip);
    result = invalid_unless(result, info != NULL);
    if (result == DCMI_OK) {
        int bus = product_now()->hbm_mb != 0 ? chip.phy_id : card;
        memset(info, 0, sizeof(*info));
        info->venderid = info->subvenderid = 0x19E5;
        info->deviceid = product_now()->pci_device;
        long told = state_chip_number(&chip, "bus", (0xC1 + bus) % 256);
        info->bdf_busid = (unsigned int)told;
    }
    return leave(result);
}

int dcmi_get_device_logic_id(int *logic_id, int card, int device)
{
    struct chip chip;
    int result = enter_chip("get_device_logic_id", card, device, ANYHOW, &chip);
    result = invalid_unless(result, logic_id != NULL);
    if (result == DCMI_OK)
        *logic_id = chip.logic_id;
    return leave(result);
}

static int other_number(const char *function, bool by_place, unsigned int given,
                        unsigned int *found)
{
    struct chip chips[MAX_CHIPS];
    int result = invalid_unless(enter(function), found != NULL);
    if (result == DCMI_OK) {
        int count = list_chips(chips, MAX_CHIPS);
        result = DCMI_ERR_CODE_DEVICE_NOT_EXIST;
        for (int n = 0; n < count; n++)
            if ((unsigned int)(by_place ? chips[n].phy_id : chips[n].logic_id) == given) {
                *found = (unsigned int)(by_place ? chips[n].logic_id : chips[n].phy_id);
                result = DCMI_OK;
            }
    }
    return leave(result);
}

int dcmi_get_device_phyid_from_logicid(unsigned int logic_id, unsigned int *phy_id)
{
    return other_number("get_device_phyid_from_logicid", false, logic_id, phy_id);
}

int dcmi_get_device_logicid_from_phyid(unsigned int phy_id, unsigned int *logic_id)
{
    return other_number("get_device_logicid_from_phyid", true, phy_id, logic_id);
}

int dcmi_get_product_type(int card, int device, char *product, int size)
{
    struct chip chip;
    int result = enter_chip("get_product_type", card, device, STARTED, &chip);
    result = invalid_unless(result, product != NULL && size >= MIN_PRODUCT);
    if (result == DCMI_OK)
        result = put_text(product, (size_t)size, product_now()->product_type);
    return leave(result);
}

int dcmi_get_device_resource_info(int card, int device, struct dcmi_proc_mem_info *processes,
                                  int *count)
{
    struct chip chip;
    int result = enter_chip("get_device_resource_info", card, device, STARTED, &chip);
    result = invalid_unless(result, processes != NULL && count != NULL);
    if (result == DCMI_OK) {
        int found = count_processes(&chip);
        *count = found < DCMI_MAX_PROCESSES ? found : DCMI_MAX_PROCESSES;
        for (int n = 0; n < *count; n++) {
            unsigned long mb = 0;
            sscanf(state_chip(&chip, "process", n), "%d %lu", &processes[n].proc_id, &mb);
            processes[n].proc_mem_usage = mb * MIB;
        }
    }
    return leave(result);
}
